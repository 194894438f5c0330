"""The operators of topics, supervisors, jobs and batch tasks: never twice, deadlines, errors in Airflow's terms."""

from __future__ import annotations

import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout, TaskDeferred

from penstock.airflow import base, operators
from penstock.airflow.operators import (
    DruidIndexOperator,
    DruidSupervisorOperator,
    FlinkStartOperator,
    FlinkStopOperator,
    KafkaTopicsOperator,
)
from penstock.lock import environment_lock
from penstock.wait import Pending, until

from ..memory import Crash, Fault, World
from .acting import DECLARED, act, task

APPLYING = (KafkaTopicsOperator, DruidSupervisorOperator, FlinkStartOperator)


def test_a_pipelines_tasks_make_it_and_the_second_time_change_nothing(world: World) -> None:
    assert [act(kind, world).result["changed"] for kind in APPLYING] == [True, True, True]
    before, fault = world.state(), Fault()
    again = [act(kind, world, fault) for kind in APPLYING]
    assert [it.result["changed"] for it in again] == [False] * 3
    assert all("nothing to do" in it.result["lines"][-1] for it in again)
    assert fault.calls == [] and world.state() == before
    assert [it.uris for it in again] == [[], [], []]


def test_a_change_of_topics_is_an_event_of_each(world: World) -> None:
    uris = act(KafkaTopicsOperator, world).uris
    assert uris == [
        "kafka://test/shop.sold.v1",
        *(f"kafka://test/penstock.sales.{role}" for role in ("out", "late", "dlq")),
    ]


@pytest.mark.parametrize("number", range(3))
def test_killed_at_any_call_and_tried_again_there_is_one_of_each(number: int, tmp_path: Path) -> None:
    def ready(folder: str) -> World:
        world = World(tmp_path / folder)
        for kind in APPLYING[:number]:
            act(kind, world)
        return world

    whole, counter = ready("whole"), Fault()
    act(APPLYING[number], whole, counter)
    assert counter.calls
    for at in range(1, len(counter.calls) + 1):
        for after in (False, True):
            world = ready(f"{at}{after}")
            with pytest.raises(Crash):
                act(APPLYING[number], world, Fault(at, after))
            act(APPLYING[number], world)
            assert world.state() == whole.state(), f"died {'after' if after else 'before'} {counter.calls[at - 1]}"
            assert len(world.flink.specs) == len(whole.flink.specs)


def test_stop_leaves_a_savepoint_and_start_goes_on_from_it(world: World) -> None:
    world.apply(DECLARED)
    assert act(FlinkStopOperator, world).result["changed"]
    assert not act(FlinkStopOperator, world).result["changed"]
    started = act(FlinkStartOperator, world)
    assert started.result["changed"]
    assert started.task.flink_url.endswith(f"/#/job/running/{world.registry.read()['sales'].job_id}/overview")


def test_a_supervisor_is_shown_suspended_and_resumed(world: World) -> None:
    assert act(DruidSupervisorOperator, world, action="diff").result["changes"] == 1
    world.apply(DECLARED)
    assert act(DruidSupervisorOperator, world, action="suspend").result["changed"]
    assert act(DruidSupervisorOperator, world, action="resume").result["changed"]
    with pytest.raises(AirflowFailException, match="'reset' can't be done to a supervisor"):
        act(DruidSupervisorOperator, world, action="reset")


#: What an operator asks for beside the pipeline.
ASKED: dict[str, dict[str, Any]] = {
    "DruidIndexOperator": {"spec": {"type": "compact"}},
    "MaintenanceOperator": {"duty": "report"},
    "ReplayBeginOperator": {"start": "1970-01-01", "end": "1970-01-02"},
    "ReplayStepOperator": {"step": "cut"},
}


@pytest.mark.parametrize("name", operators.__all__)
def test_each_has_templates_a_deadline_a_trigger_and_links(name: str) -> None:
    more = {"pipeline": "{{ params.it }}", "deadline": timedelta(minutes=1), "deferrable": True}
    made = getattr(operators, name)(task_id="t", **more, **ASKED.get(name, {}))
    made.render_template_fields({"params": {"it": "sales"}})
    assert (made.pipeline, made.seconds, made.deferrable) == ("sales", 60.0, True)
    own = {*ASKED.get(name, {}), "pipeline", "project", "environment", "conn_id"}
    assert own <= set(made.template_fields)
    assert {link.name for link in made.operator_extra_links} == {"Flink job", "Druid"}


# What is worth another try, and what is not.


def test_a_mistake_and_a_refusal_are_never_tried_again(world: World) -> None:
    with pytest.raises(AirflowFailException, match="no pipeline 'sails' is declared"):
        act(FlinkStartOperator, world, pipeline="sails")
    world.apply(DECLARED)
    world.registry.write(world.registry.read()["sales"].but(version="another"))
    with pytest.raises(AirflowFailException, match="1 step is refused; nothing was done"):
        act(FlinkStartOperator, world)


def test_a_service_that_is_down_is_worth_another_try(world: World) -> None:
    world.apply(DECLARED)
    world.flink.down = True
    with pytest.raises(AirflowException, match="Flink does not answer") as caught:
        act(FlinkStartOperator, world)
    assert not isinstance(caught.value, AirflowFailException)


def test_it_waits_for_another_change_to_end(world: World) -> None:
    with environment_lock(world.settings, "apply"):
        with pytest.raises(AirflowTaskTimeout, match="is being changed by `penstock apply`"):
            act(KafkaTopicsOperator, world, seconds=0.3)
        with pytest.raises(TaskDeferred) as deferred:
            act(KafkaTopicsOperator, world, deferrable=True)
    assert deferred.value.trigger.watch["kind"] == "nap"
    assert act(KafkaTopicsOperator, world).result["changed"]


# Deadlines and places.


def test_the_log_tells_new_words_at_once_and_other_numbers_now_and_then() -> None:
    told: list[str] = []
    progress = base.LogProgress(SimpleNamespace(info=lambda _, text: told.append(text)), every=60.0)
    for text in ("sales: compiling", "sales: submitting", "1 of 4 tasks run", "2 of 4 tasks run", "sales: submitting"):
        progress.update(text)
    assert told == ["sales: compiling", "sales: submitting", "1 of 4 tasks run", "sales: submitting"]


class Waits(base.PenstockOperator):
    """Waits for ever."""

    def act(self, context: Any, timeout: float) -> Any:
        return until(
            "a thing", lambda: Pending(f"not there at {time.time()}"), timeout=timeout, interval=0.01, patient=True
        )


def test_a_deadline_is_the_wall_clocks_whatever_goes_on(world: World) -> None:
    began = time.time()
    with pytest.raises(AirflowTaskTimeout, match=r"not done by its deadline .*last seen: a thing: not there"):
        act(Waits, world, seconds=0.5)
    assert time.time() - began < 30, "the wait itself would end after a minute more"


def test_a_wait_gives_up_its_place_and_keeps_its_deadline(world: World) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        act(Waits, world, seconds=60, deferrable=True)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "penstock.airflow.triggers.ServiceTrigger"
    assert deferred.value.kwargs == {"until": arguments["until"]}
    with pytest.raises(AirflowTaskTimeout, match="last seen: job x is RUNNING"):
        task(Waits, world).go_on({}, time.time() - 1, event={"seen": "job x is RUNNING"})
    with pytest.raises(TaskDeferred) as again:  # as `DAG.test` resumes it
        task(Waits, world, deferrable=True).go_on({}, event={"seen": "job x is RUNNING", "until": arguments["until"]})
    assert again.value.kwargs == deferred.value.kwargs


def test_a_kill_ends_what_its_process_has_begun_before_it_cancels(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a planner submits a job after it was cancelled."""
    planner = subprocess.Popen(["sleep", "60"])
    ended: list[int | None] = []
    monkeypatch.setattr(base, "cancel", lambda watch: ended.append(planner.wait(10)))
    monkeypatch.setattr("airflow.sdk.get_current_context", dict)
    task(Waits, world).on_kill()
    assert ended == [-signal.SIGKILL]


def test_a_batch_task_is_run_once_and_cancelled_at_its_deadline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"type": "index_parallel", "spec": {"dataSchema": {"dataSource": "sales"}}}
    monkeypatch.setattr(world.druid, "submit_task", lambda it: world.druid.tasks.setdefault(it["id"], "RUNNING"))
    with pytest.raises(TaskDeferred) as deferred:
        act(DruidIndexOperator, world, spec=spec, deferrable=True)
    (identity,) = world.druid.tasks
    watch = deferred.value.trigger.watch
    assert (watch["kind"], watch["id"], watch["cancel"]) == ("task ended", identity, True)
    cancelled: list[str] = []
    monkeypatch.setattr(base, "cancel", lambda watch: cancelled.append(watch.id))
    with pytest.raises(AirflowTaskTimeout):
        act(DruidIndexOperator, world, spec=spec, seconds=0.2)
    assert cancelled == [identity]
    world.druid.tasks[identity] = "SUCCESS"
    done = act(DruidIndexOperator, world, spec=spec)
    assert (done.result["changed"], done.uris) == (False, ["druid://test/sales"])
    assert list(world.druid.tasks) == [identity]
