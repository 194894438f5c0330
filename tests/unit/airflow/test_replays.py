"""Replays and repairs by their operators: one task a step, one replay a run, whatever dies; refused as by a shell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout, TaskDeferred

from penstock.airflow import base
from penstock.airflow.operators import RepairOperator, ReplayBeginOperator, ReplayStepOperator
from penstock.airflow.operators.replay import STEPS
from penstock.lock import only_one
from penstock.pipeline import Pipeline

from ..memory import Crash, Fault
from ..replay.world import TUMBLE, Life, lived, outcome
from .acting import DECLARED, TWO_HOURS, act


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


def test_at_the_deadline_a_publication_goes_on_and_a_computation_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []
    monkeypatch.setattr(base, "cancel", lambda watch: asked.append((watch.kind, watch.cancel)))
    computing, publishing = lived(tmp_path / "computing"), lived(tmp_path / "publishing")
    computing.flink.submit_batch = lambda settings, spec, progress=None: (  # type: ignore[method-assign]
        computing.flink.job(spec.job_id) or computing.flink._start(spec.job_id, spec.name)
    )
    publishing.druid.submit_task = lambda spec: publishing.druid.tasks.setdefault(spec["id"], "RUNNING")  # type: ignore
    for life, before, step in ((computing, ["settle"], "compute"), (publishing, ["hand_off"], "publish")):
        replay(life, before)
        with pytest.raises(AirflowTaskTimeout, match=r"last seen: .*RUNNING|last seen: .*running"):
            act(ReplayStepOperator, life, step=step, seconds=0.5)
    assert asked == [("job ended", True), ("task ended", False)]


def test_a_beginning_killed_once_it_was_noted_is_the_same_replay(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(Crash):
        act(ReplayBeginOperator, life, Fault(1, after=True), **TWO_HOURS)
    (noted,) = life.replays.read()
    assert act(ReplayBeginOperator, life, **TWO_HOURS).result == noted
    assert list(life.replays.read()) == [noted]


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


def test_by_its_policy_a_pipeline_is_repaired_when_it_is_due(tmp_path: Path) -> None:
    life = lived(tmp_path)
    never, hourly = ([replace(TUMBLE, repair=policy)] for policy in ("never", "hourly"))
    assert act(RepairOperator, life, due=True, declared=never).result == {"changed": False, "replays": []}
    assert act(RepairOperator, life, due=True, declared=hourly).uris == ["druid://test/sales"]
    assert act(RepairOperator, life, due=True, declared=hourly).result == {"changed": False, "replays": []}


def test_a_repair_waits_for_another_process_that_is_at_it(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(Crash):
        act(RepairOperator, life, Fault(3))
    (begun,) = life.replays.read().values()
    with only_one(life.settings, begun.id), pytest.raises(AirflowTaskTimeout, match="by another process"):
        act(RepairOperator, life, seconds=0.3)
    assert act(RepairOperator, life).result["replays"] == [begun.id]
