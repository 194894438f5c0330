"""Health, the watch and maintenance by their operators."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout, TaskDeferred

from penstock.airflow import hooks
from penstock.airflow.operators import HealthOperator, MaintenanceOperator, WatchOperator
from penstock.errors import DeclarationError

from ..memory import World
from ..replay.world import lived
from .acting import DECLARED, Hook, act


def test_health_is_waited_for(world: World) -> None:
    world.apply(DECLARED)
    for job in world.flink.jobs():
        world.flink.checkpoint_times[job.id] = round(time.time() * 1000)
    assert act(HealthOperator, world).result == "healthy"
    world.druid.set_state("sales", "UNHEALTHY_TASKS", healthy=False)
    with pytest.raises(AirflowTaskTimeout, match="supervisor unhealthy_tasks: the reason in one line"):
        act(HealthOperator, world, seconds=0.3)


def test_a_refused_user_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise DeclarationError("Flink refused GET /overview (401): no such user")

    world.apply(DECLARED)
    monkeypatch.setattr(world.flink, "overview", refuse)
    with pytest.raises(AirflowFailException, match=r"\(401\): no such user"):
        act(HealthOperator, world, seconds=2)


def test_maintenance_does_one_duty(tmp_path: Path) -> None:
    life = lived(tmp_path)
    assert act(MaintenanceOperator, life, duty="compact", pipeline="").result == []
    assert act(MaintenanceOperator, life, duty="report").result == [
        "sales: 0 dead-lettered, 2 late, 2 of them not healed"
    ]


class Told(BaseNotifier):
    """Keeps what it is told."""

    template_fields = ("words",)

    def __init__(self) -> None:
        super().__init__()
        self.words: list[tuple[list[str], bool]] = []

    def notify(self, context: Any) -> None:
        self.words.append((context["findings"], context["well"]))


def test_the_watch_fails_while_something_is_unhealthy_and_tells_of_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.apply(DECLARED)
    for job in world.flink.jobs():
        world.flink.checkpoint_times[job.id] = round(time.time() * 1000)
    monkeypatch.setattr(hooks, "PenstockHook", lambda *_, **__: Hook(world))
    told = Told()
    watch = WatchOperator(task_id="w", notifiers=[told])
    assert watch.execute({}) == "healthy"
    world.flink.down = True
    for _ in range(2):
        with pytest.raises(AirflowException, match=r"Flink is unavailable since .*: Flink does not answer"):
            watch.execute({})
    world.flink.down = False
    assert watch.execute({}) == watch.execute({}) == "healthy"
    assert [(len(findings), well) for findings, well in told.words] == [(1, False), (0, True)]


def test_the_watch_lets_a_trigger_look_and_tells_what_it_saw() -> None:
    watch = WatchOperator(task_id="w", deferrable=True, project="here")
    with pytest.raises(TaskDeferred) as deferred:
        watch.execute({})
    path, arguments = deferred.value.trigger.serialize()
    assert (path, arguments["project"]) == ("penstock.airflow.triggers.HealthTrigger", "here")
    # The scheduler does the same without a worker.
    assert watch.start_from_trigger and watch.start_trigger_args is not None
    assert (watch.start_trigger_args.trigger_cls, watch.start_trigger_args.trigger_kwargs) == (path, arguments)
    assert not WatchOperator(task_id="w").start_from_trigger
    until = deferred.value.kwargs["until"]
    for event in ({"error": "no such project"}, {"findings": ["Flink is unavailable"], "changed": False}):
        with pytest.raises(AirflowException, match=r"no such project|Flink is unavailable"):
            watch.go_on({}, event=event)
    assert watch.go_on({}, until, {"findings": [], "changed": True}) == "healthy"
    assert watch.go_on({}, event="success") == "healthy"
