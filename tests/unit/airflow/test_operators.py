"""The operators over an environment in memory: never twice, deadlines, places given up, errors in Airflow's terms."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "True")

from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
)

from penstock.airflow import base
from penstock.airflow.operators import (
    DruidIndexOperator,
    DruidSupervisorOperator,
    FlinkStartOperator,
    FlinkStopOperator,
    FlinkUpgradeOperator,
    HealthOperator,
    KafkaTopicsOperator,
    MaintenanceOperator,
    RepairOperator,
    ReplayBeginOperator,
    ReplayStepOperator,
)
from penstock.airflow.operators.replay import STEPS
from penstock.durations import millis
from penstock.errors import DeclarationError
from penstock.flink.spec import version
from penstock.lock import environment_lock
from penstock.pipeline import Pipeline
from penstock.replay.run import only_one, run
from penstock.upgrade import Request, begin
from penstock.wait import Pending, until

from ..memory import Crash, Fault, World
from ..replay.test_launch import CHANGED
from ..replay.world import RAW, TUMBLE, Life, lived, outcome
from ..test_in_place import NEW, OLD, applied

DECLARED = [TUMBLE, RAW]
RUN = SimpleNamespace(dag_id="penstock_replay", run_id="manual__1", run_after=datetime(2026, 1, 1, tzinfo=UTC))
TWO_HOURS = {"start": "1970-01-01T00:00:00+00:00", "end": "1970-01-01T01:00:00.000Z"}


class Hook:
    """The hook of a world: `fault` kills the process at a call that changes something."""

    def __init__(self, world: World, fault: Fault | None = None) -> None:
        self.settings = world.settings
        self.services = world.services(fault)

    def pipelines(self, names: Sequence[str] = ()) -> list[Pipeline]:
        declared = {it.name: it for it in DECLARED}
        unknown = [name for name in names if name not in declared]
        if unknown:
            raise DeclarationError(f"no pipeline {unknown[0]!r} is declared")
        return [declared[name] for name in names] if names else DECLARED

    def pipeline(self, name: str) -> Pipeline:
        return self.pipelines([name])[0]


class Events(dict[Any, Any]):
    """Where a task adds the events of its assets."""

    def __init__(self) -> None:
        super().__init__()
        self.uris: list[str] = []

    def __missing__(self, key: Any) -> Any:
        return SimpleNamespace(add=lambda asset, extra=None: self.uris.append(asset.uri))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in memory needs to be watched for longer; the hand-off makes sure at once."""
    monkeypatch.setattr(base, "PLACE", 0.3)
    monkeypatch.setattr(base, "EVERY", 0.05)
    import penstock.replay.mend as mend
    import penstock.replay.run as run
    import penstock.upgrade as core

    for function in (run.run, mend.repair, core.upgrade):
        defaults = dict(function.__kwdefaults__ or {})
        monkeypatch.setattr(function, "__kwdefaults__", {**defaults, "steady": 0.0})


def task(kind: Any, world: World, fault: Fault | None = None, **arguments: Any) -> Any:
    made = kind(task_id="t", **({"pipeline": "sales"} | arguments))
    made.__dict__["hook"] = Hook(world, fault)
    return made


def act(kind: Any, world: World, fault: Fault | None = None, *, seconds: float = 120, **arguments: Any) -> Any:
    events = Events()
    it = task(kind, world, fault, **arguments)
    shown: list[str] = []
    it.__dict__["show"] = lambda text: shown.append(base.plain(text))
    result = it.go_on({"dag_run": RUN, "outlet_events": events}, time.time() + seconds)
    return SimpleNamespace(result=result, uris=events.uris, task=it, shown=shown)


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


# Replays.


def replay(life: Life, steps: Sequence[str] = tuple(STEPS), fault: Fault | None = None, **asked: Any) -> dict[str, Any]:
    name = life.pipeline.name
    done: dict[str, Any] = {"begin": act(ReplayBeginOperator, life, fault, pipeline=name, **(TWO_HOURS | asked))}
    for step in steps:
        try:
            done[step] = act(ReplayStepOperator, life, fault, pipeline=name, step=STEPS[step])
        except AirflowSkipException as skipped:
            done[step] = str(skipped)
    return done


@pytest.mark.parametrize("pipeline", DECLARED, ids=lambda it: it.name)
@pytest.mark.parametrize("dry", [False, "True"])
def test_one_task_a_step_is_the_whole_replay(pipeline: Pipeline, dry: Any, tmp_path: Path) -> None:
    whole, life = lived(tmp_path / "whole", pipeline), lived(tmp_path / "tasks", pipeline)
    name = replay(life, dry=dry, reason="why not")["begin"].result
    whole.replay(dry_run=bool(dry), id=name)
    assert outcome(life).replace("/tasks/", "/whole/") == outcome(whole)
    again = replay(life, dry=dry)
    assert outcome(life).replace("/tasks/", "/whole/") == outcome(whole)
    skipped = {step for step, it in again.items() if isinstance(it, str)}
    windowed = pipeline is TUMBLE
    assert skipped == ({"stop", "resume"} if windowed else {"close"} | ({"stop", "resume"} if dry else set())) | (
        {"hand_off", "publish", "check"} if dry else set()
    )
    assert again["receipt"].result.startswith(f"{pipeline.name}: {'dry run' if dry else 'published and checked'}")
    assert "rows recomputed from the log by DuckDB and equal" in again["receipt"].shown[0]
    took = again["receipt"].shown[0].partition("and equal")[2]
    assert took.index("cut ") < took.index("compute ") < took.index("receipt "), "as they were done"
    if not dry:
        assert again["check"].uris == [f"druid://test/{pipeline.name}"]


@pytest.mark.parametrize("pipeline", DECLARED, ids=lambda it: it.name)
def test_killed_at_any_call_and_the_run_cleared_it_is_one_replay(pipeline: Pipeline, tmp_path: Path) -> None:
    whole, counter = lived(tmp_path / "whole", pipeline), Fault()
    replay(whole, fault=counter)
    for at in range(1, len(counter.calls) + 1, 2):
        life = lived(tmp_path / str(at), pipeline)
        with pytest.raises(Crash):
            replay(life, fault=Fault(at, after=bool(at % 4 == 1)))
        replay(life)
        assert outcome(life).replace(f"/{at}/", "/whole/") == outcome(whole), f"died at call {at}"
        assert len(life.replays.read()) == 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"start": TWO_HOURS["end"], "end": TWO_HOURS["start"]}, "is not before --to"),
        ({"end": "None"}, "a pipeline, --from and --to are needed"),
        ({"start": "yesterday"}, "--from 'yesterday' is no date"),
        ({"pipeline": "sails"}, "no pipeline 'sails' is declared"),
        ({"end": "1970-01-01T09:00"}, "windows of the range are still open"),
        ({"rate": "0"}, "--rate 0 is no number of records a second"),
    ],
)
def test_a_wrong_form_is_refused_by_the_first_task(
    asked: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life, told = lived(tmp_path), []
    monkeypatch.setattr(ReplayBeginOperator, "log", SimpleNamespace(error=lambda form, error: told.append(str(error))))
    with pytest.raises(AirflowFailException, match=words) as refused:
        act(ReplayBeginOperator, life, **(TWO_HOURS | asked))
    assert life.replays.read() == {}
    assert told == [str(refused.value)], "told by itself, and not only above a stack trace"


def test_while_it_computes_the_job_is_watched_and_is_this_tasks_own(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.flink.submit_batch = lambda settings, spec, progress=None: (  # type: ignore[method-assign]
        life.flink.job(spec.job_id) or life.flink._start(spec.job_id, spec.name)
    )
    replay(life, ["close", "cut", "settle"])
    for _ in range(2):
        with pytest.raises(TaskDeferred) as deferred:
            act(ReplayStepOperator, life, step="compute", deferrable=True)
    (job,) = [job for job in life.flink.jobs() if "replay" in job.name]
    watch = deferred.value.trigger.watch
    assert (watch["kind"], watch["id"], watch["cancel"]) == ("job ended", job.id, True)


def test_a_publication_under_way_is_watched_and_never_cut_off(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.druid.submit_task = lambda spec: life.druid.tasks.setdefault(spec["id"], "RUNNING")  # type: ignore
    replay(life, ["compute", "verify", "hand_off"])
    with pytest.raises(TaskDeferred) as deferred:
        act(ReplayStepOperator, life, step="publish", deferrable=True)
    watch = deferred.value.trigger.watch
    assert (watch["kind"], watch["cancel"]) == ("task ended", False)
    assert watch["id"].startswith("penstock_replay_test_sales-20260101T000000-")


def test_a_step_without_its_replay_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="there is no replay 'sales-"):
        act(ReplayStepOperator, lived(tmp_path), step="cut")


@pytest.mark.parametrize("after", [False, True])
def test_a_repair_that_was_killed_is_finished_by_the_next(after: bool, tmp_path: Path) -> None:
    whole, counter = lived(tmp_path / "whole"), Fault()
    assert act(RepairOperator, whole, counter).uris == ["druid://test/sales"]
    assert act(RepairOperator, whole).result == {"changed": False, "replays": []}
    for at in range(2, len(counter.calls) + 1, 3):
        life = lived(tmp_path / f"{at}")
        with pytest.raises(Crash):
            act(RepairOperator, life, Fault(at, after))
        act(RepairOperator, life)
        assert life.rows() == whole.rows(), f"died at call {at}"
        assert [it.status for it in life.replays.read().values()] == ["done"]


def test_by_its_policy_a_pipeline_is_repaired_when_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = lived(tmp_path)
    monkeypatch.setitem(globals(), "DECLARED", [replace(TUMBLE, repair="never")])
    assert act(RepairOperator, life, due=True).result == {"changed": False, "replays": []}
    monkeypatch.setitem(globals(), "DECLARED", [replace(TUMBLE, repair="hourly")])
    assert act(RepairOperator, life, due=True).uris == ["druid://test/sales"]
    assert act(RepairOperator, life, due=True).result == {"changed": False, "replays": []}


def test_a_repair_waits_for_another_process_that_is_at_it(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(Crash):
        act(RepairOperator, life, Fault(3))
    (begun,) = life.replays.read().values()
    with only_one(life.settings, begun.id), pytest.raises(AirflowTaskTimeout, match="by another process"):
        act(RepairOperator, life, seconds=0.3)
    assert act(RepairOperator, life).result["replays"] == [begun.id]


# Upgrades.


@pytest.fixture
def changed(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setitem(globals(), "DECLARED", [CHANGED])
    return CHANGED


def going_over(life: Life, fault: Fault | None = None, replay_from: str = "1970-01-01", **more: Any) -> Any:
    life.pipeline = CHANGED
    return act(FlinkUpgradeOperator, life, fault, replay_from=replay_from, **more)


def test_an_upgrade_with_a_replay_is_the_command_lines(changed: Pipeline, tmp_path: Path) -> None:
    life = lived(tmp_path)
    done = going_over(life, rate="None", reason="None")
    assert done.result["changed"] and done.uris == ["druid://test/sales"]
    record = life.registry.read()["sales"]
    assert (record.version, record.status) == (version(changed), "running")
    assert done.task.flink_url.endswith(f"/{record.job_id}/overview")
    (replay,) = life.replays.read().values()
    assert replay.id.startswith("upgrade-sales-20260101T000000-")
    assert replay.asked.reason == "run manual__1 of penstock_replay"
    before, fault = outcome(life), Fault()
    assert going_over(life, fault).result["replay"] == replay.id
    assert fault.calls == [] and outcome(life) == before
    another = going_over(life, fault, replay_id="another-run")
    assert "nothing to do" in another.result["lines"][0] and outcome(life) == before


def test_an_upgrade_killed_at_any_call_and_cleared_ends_the_same(changed: Pipeline, tmp_path: Path) -> None:
    whole, counter = lived(tmp_path / "whole"), Fault()
    going_over(whole, counter)
    for at in range(1, len(counter.calls) + 1, 3):
        life = lived(tmp_path / str(at))
        with pytest.raises(Crash):
            going_over(life, Fault(at, after=bool(at % 2)))
        going_over(life)
        assert outcome(life).replace(f"/{at}/", "/whole/") == outcome(whole), f"died at call {at}"
        assert len(life.replays.read()) == 1


def test_an_upgrade_in_place_goes_on_from_a_savepoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = applied(tmp_path)
    monkeypatch.setitem(globals(), "DECLARED", [NEW])
    assert "goes on where" in act(FlinkUpgradeOperator, world, replay_from="None").result["lines"][0]
    assert not act(FlinkUpgradeOperator, world, replay_from=None).result["changed"]
    world.flink.plans[version(OLD)] = world.flink.plans[version(NEW)].replace("COUNT", "SUM")
    monkeypatch.setitem(globals(), "DECLARED", [OLD])
    with pytest.raises(AirflowFailException, match="nothing was stopped"):
        act(FlinkUpgradeOperator, world)


def test_an_upgrade_gives_up_its_place_but_where_a_wait_must_last(changed: Pipeline, tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.pipeline = CHANGED
    in_place = task(FlinkUpgradeOperator, life, deferrable=True)
    replayed = task(FlinkUpgradeOperator, life, deferrable=True, replay_from="1970-01-01")
    assert in_place.place == math.inf
    assert replayed.place == base.PLACE + millis(CHANGED.source.idle_after) / 1000
    begun = begin(CHANGED, Request(0), life.services(), life.settings, id="u1")
    assert begun is not None
    for step, place in (("verify", replayed.place), ("publish", math.inf)):
        run(CHANGED, begun.replay, life.services(), life.settings, timeout=0.2, through=step)
        assert in_place.place == replayed.place == place, step


def test_an_upgrade_is_not_finished_by_the_tasks_of_a_replay(changed: Pipeline, tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(Crash):
        going_over(life, Fault(5))
    (begun,) = life.replays.read().values()
    before = outcome(life)
    with pytest.raises(AirflowFailException, match=f"{begun.id} is an upgrade, not a replay"):
        act(ReplayStepOperator, life, step="receipt", replay_id=begun.id)
    with pytest.raises(AirflowFailException, match=f"{begun.id} is an upgrade, not a replay"):
        act(ReplayBeginOperator, life, replay_id=begun.id, **TWO_HOURS)
    assert outcome(life) == before


# Upkeep.


def test_health_is_waited_for(world: World) -> None:
    world.apply(DECLARED)
    for job in world.flink.jobs():
        world.flink.checkpoint_times[job.id] = round(time.time() * 1000)
    assert act(HealthOperator, world).result == "healthy"
    world.druid.set_state("sales", "UNHEALTHY_TASKS", healthy=False)
    with pytest.raises(AirflowTaskTimeout, match="supervisor unhealthy_tasks: the reason in one line"):
        act(HealthOperator, world, seconds=0.3)


def test_maintenance_does_one_duty(tmp_path: Path) -> None:
    life = lived(tmp_path)
    assert act(MaintenanceOperator, life, duty="compact", pipeline="").result == []
    assert act(MaintenanceOperator, life, duty="report").result == [
        "sales: 0 dead-lettered, 2 late, 2 of them not healed"
    ]
