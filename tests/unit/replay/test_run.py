"""A replay in memory: what it publishes, what it leaves alone, and that it may die at any call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import NotEqualError, PenstockError, RefusedError, UnavailableError
from penstock.lifecycle import start, stop
from penstock.lock import only_one
from penstock.pipeline import Pipeline
from penstock.replay import publish
from penstock.replay.derive import BatchSpec, batch_job_id
from penstock.replay.render import verdict
from penstock.replay.run import abandon
from penstock.services.flink import Job, local

from ..memory import Crash, Fault
from .world import HOUR, RAW, TUMBLE, Life, lived, outcome

PIPELINES = {"windowed": TUMBLE, "pass-through": RAW}


def test_late_events_are_counted_and_the_rest_stays(tmp_path: Path) -> None:
    life = lived(tmp_path)
    assert life.rows() == [(0, 2), (60_000, 1), (30 * 60_000, 1), (59 * 60_000, 1)]
    beyond = life.rows(HOUR)
    done = life.replay()
    assert done.status == "done"
    assert life.rows(0, HOUR) == [(0, 1), (0, 2), (60_000, 1), (60_000, 1), (30 * 60_000, 1), (59 * 60_000, 1)]
    assert life.rows(HOUR) == beyond
    figures = done.figures
    assert (figures.before[0].events, figures.computed[0].events, figures.after[0].events) == (5, 7, 7)
    assert figures.read == 8
    assert {name: (item.before, item.computed) for name, item in figures.sums.items()} == {"n": (5, 7)}
    assert done.cut is not None and done.cut.high == {0: 5, 1: 3}


def test_a_pass_through_pipeline_stands_still_and_goes_on(tmp_path: Path) -> None:
    life = lived(tmp_path, RAW)
    before = life.rows()
    life.arrive(5_000)  # of the range, and not read by the live job when it is stopped
    done = life.replay()
    assert done.cut is not None and done.cut.high == {0: 5, 1: 3}
    assert life.rows() == before
    life.live()
    assert life.rows() == sorted([*before, (5_000, 1)])
    assert next(job.state for job in life.flink.jobs() if job.name == "penstock.sales_raw") == "RUNNING"


def test_a_pass_through_pipelines_own_slots_are_enough(tmp_path: Path) -> None:
    life = lived(tmp_path, RAW)
    life.flink.slots = 0
    with pytest.raises(RefusedError, match="no free slot"):
        life.replay(dry_run=True)
    done = life.replay()
    assert (done.status, done.parallelism) == ("done", 1), "its job is stopped first"


def test_what_arrives_after_the_cut_is_late_and_not_lost(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.replay()
    before = life.rows()
    life.arrive(4_000, id="c")
    life.live()
    assert life.rows() == before
    assert sum(life.kafka.end_offsets("penstock.sales.late", committed=True).values()) == 3
    life.replay(id="r2")
    assert life.rows(0, 60_000) == [(0, 1), (0, 1), (0, 2)]


def test_a_dry_run_publishes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    for name, pipeline in PIPELINES.items():
        life = lived(tmp_path / name, pipeline)
        before, jobs = life.rows(), life.flink.jobs()
        done = life.replay(dry_run=True)
        assert done.status == "dry"
        assert done.figures.computed
        assert life.rows() == before
        assert not life.druid.tasks, "what Druid's tasks hold is their own affair: nothing is published"
        assert [job for job in life.flink.jobs() if job.live] == [job for job in jobs if job.live]
        assert not list((tmp_path / name / "state" / "replays").rglob("part-*"))


def test_run_twice_it_changes_nothing(tmp_path: Path) -> None:
    life, counter = lived(tmp_path), Fault()
    first = life.replay()
    before = outcome(life)
    assert life.replay(fault=counter) == first
    assert counter.calls == []
    assert outcome(life) == before
    assert not list((tmp_path / ".penstock" / "locks").glob("*.replay.*")), "nothing is left of it but its record"


def test_two_processes_do_not_run_the_same_replay(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with only_one(life.settings, "r1"), pytest.raises(RefusedError, match="is being run by another process"):
        life.replay()
    assert life.replay().status == "done"


@pytest.mark.parametrize("name", PIPELINES)
def test_killed_at_any_call_and_run_again_it_ends_the_same(name: str, tmp_path: Path) -> None:
    def alive(folder: str) -> Life:
        return lived(tmp_path / folder, PIPELINES[name])

    life, counter = alive("whole"), Fault()
    life.replay(fault=counter)
    wanted = outcome(life)
    assert len(counter.calls) > 12
    for at in range(1, len(counter.calls) + 1):
        for after in (False, True):
            life = alive(f"{at}{after}")
            with pytest.raises(Crash):
                life.replay(fault=Fault(at, after))
            life.replay()
            call = f"{'after' if after else 'before'} call {at} ({counter.calls[at - 1]})"
            assert outcome(life).replace(f"{at}{after}", "whole") == wanted, f"died {call}"


@pytest.mark.parametrize("name", PIPELINES)
def test_a_service_that_is_away_at_any_call_is_outlasted(name: str, tmp_path: Path) -> None:
    """It may have done what it was asked for, and died before it said so."""
    life, counter = lived(tmp_path / "whole", PIPELINES[name]), Fault()
    life.replay(fault=counter)
    wanted = outcome(life)
    for at in range(1, len(counter.calls) + 1):
        for after in (False, True):
            life = lived(tmp_path / f"{at}{after}", PIPELINES[name])
            away = Fault(at, after, error=lambda: UnavailableError("away"))
            assert life.replay(fault=away).status == "done"
            call = f"{'after' if after else 'before'} call {at} ({counter.calls[at - 1]})"
            assert outcome(life).replace(f"{at}{after}", "whole") == wanted, f"away {call}"


def test_a_service_that_stays_away_is_named_and_the_replay_goes_on_later(tmp_path: Path) -> None:
    life, counter = lived(tmp_path / "whole"), Fault()
    life.replay(fault=counter)
    wanted = outcome(life)
    life = lived(tmp_path / "it")
    compute = life.flink.bounded

    def last(spec: BatchSpec) -> None:
        compute(spec)
        life.druid.down = True

    life.flink.bounded = last
    with pytest.raises(UnavailableError, match=r"step verify.*Druid's coordinator does not answer"):
        life.replay()
    life.druid.down = False
    life.replay()
    assert outcome(life).replace("it", "whole") == wanted


@pytest.mark.parametrize("name", PIPELINES)
def test_given_up_at_any_call_the_job_runs_and_the_range_can_be_replayed(name: str, tmp_path: Path) -> None:
    pipeline: Pipeline = PIPELINES[name]
    life, counter = lived(tmp_path / "whole", pipeline), Fault()
    before = life.rows()
    life.replay(fault=counter)
    replayed = life.rows()
    for at in range(2, len(counter.calls) + 1):
        life = lived(tmp_path / str(at), pipeline)
        with pytest.raises(Crash):
            life.replay(fault=Fault(at))
        done = abandon(pipeline, life.replays.read()["r1"], life.services(), life.settings, timeout=0.2)
        assert done.status == "abandoned"
        published = "submit_task" in counter.calls[: at - 1]
        assert life.rows() == (replayed if published else before)
        assert ("not checked" in verdict(done)) == ("submit_task" in counter.calls[:at])
        assert len([job for job in life.flink.jobs() if job.live]) == 1
        assert not list((tmp_path / str(at) / "state" / "replays").rglob("part-*"))
        life.replay(id="r2")
        assert life.rows() == replayed


def test_what_is_being_published_is_not_given_up(tmp_path: Path) -> None:
    life, counter = lived(tmp_path / "whole"), Fault()
    life.replay(fault=counter)
    life = lived(tmp_path / "it")
    with pytest.raises(Crash):
        life.replay(fault=Fault(counter.calls.index("submit_task") + 1, after=True))
    life.druid.tasks["penstock_replay_test_r1_1"] = "RUNNING"
    with pytest.raises(RefusedError, match="is being published"):
        abandon(TUMBLE, life.replays.read()["r1"], life.services(), life.settings, timeout=0.2)


def test_files_that_are_not_what_the_log_gives_are_not_published(tmp_path: Path) -> None:
    for damage in ("lost", "doubled", "changed", "strayed"):
        life = lived(tmp_path / damage)
        before, compute = life.rows(), life.flink.bounded

        def damaged(spec, damage=damage, compute=compute) -> None:  # type: ignore[no-untyped-def]
            compute(spec)
            folder = local(spec.folder)
            assert folder is not None
            lines = (folder / "part-0").read_text().splitlines()
            wrong = {
                "lost": lines[1:],
                "doubled": [*lines, lines[0]],
                "changed": [lines[0].replace('"n": ', '"n": 1'), *lines[1:]],
                "strayed": [*lines, lines[0].replace('"window_start": 0', f'"window_start": {2 * HOUR}')],
            }
            (folder / "part-0").write_text("\n".join(wrong[damage]) + "\n")

        life.flink.bounded = damaged
        with pytest.raises(NotEqualError, match="nothing was published"):
            life.replay()
        assert life.rows() == before


def test_a_failed_computation_is_tried_anew_in_a_folder_of_its_own(tmp_path: Path) -> None:
    life = lived(tmp_path)
    compute = life.flink.bounded

    def failing(spec) -> None:  # type: ignore[no-untyped-def]
        compute(spec)  # half of it, so to speak
        life.flink.set_state(spec.name, "FAILED", reason="no more memory")

    life.flink.bounded = failing
    with pytest.raises(PenstockError, match="no more memory"):
        life.replay()
    life.flink.bounded = compute
    assert life.replay().attempt == 2
    assert life.rows(0, 60_000) == [(0, 1), (0, 2)]


def test_a_job_that_was_started_meanwhile_stops_the_publication(tmp_path: Path) -> None:
    """Rows past the cut of a pass-through pipeline may be in Druid then; replacing the range would lose them."""
    life, counter = lived(tmp_path / "whole", RAW), Fault()
    life.replay(fault=counter)
    life = lived(tmp_path / "it", RAW)
    with pytest.raises(Crash):
        life.replay(fault=Fault(counter.calls.index("submit_task") + 1))
    start("sales_raw", [RAW], life.services(), life.settings, timeout=0.2)
    life.arrive(7_000)
    life.live()
    before = life.rows()
    with pytest.raises(RefusedError, match="the live job was started since"):
        life.replay()
    assert life.rows() == before


def test_a_job_that_goes_back_behind_the_windows_is_looked_at_again(tmp_path: Path) -> None:
    """Restored between the look and the checkpoint, it may fire the windows again, with rows past the cut."""
    life = lived(tmp_path)
    looks: list[int] = []
    real = life.flink.restored

    def restored(job_id: str) -> tuple[int, int]:
        looks.append(1)
        return (len(looks), 0) if len(looks) <= 4 else real(job_id)

    life.flink.restored = restored  # type: ignore[method-assign]
    life.replay(timeout=5)
    assert len(looks) == 6
    assert life.flink.checkpoints == 3


def test_without_the_hand_off_rows_would_be_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the step is for: the naive replay, whose total is checked only after the harm is done."""

    life = lived(tmp_path)
    monkeypatch.setattr(publish, "hand_off", lambda work, replay: replay)
    monkeypatch.setattr(publish, "ask_hand_off", lambda work, replay: replay)
    with pytest.raises(NotEqualError, match="Druid does not serve what was computed"):
        life.replay()
    assert sum(events for _, events in life.rows(0, HOUR)) == 5 + 7


def test_run_again_the_hand_off_is_looked_at_again(tmp_path: Path) -> None:
    """Between the death and the next run Druid's task may have failed, and its successor begun further back."""
    life, counter = lived(tmp_path / "whole"), Fault()
    life.replay(fault=counter)
    wanted = life.rows()
    life = lived(tmp_path / "it")
    with pytest.raises(Crash):
        life.replay(fault=Fault(counter.calls.index("submit_task") + 1))
    assert "hand off" in life.replays.read()["r1"].done
    life.druid.fail_task("sales")
    life.replay()
    assert life.rows() == wanted


def test_a_computation_that_flink_has_forgotten_is_begun_anew_elsewhere(tmp_path: Path) -> None:
    """A new run in the folder of the old one would leave the files of both: each row twice."""
    life, counter = lived(tmp_path / "whole"), Fault()
    life.replay(fault=counter)
    life = lived(tmp_path / "it")
    with pytest.raises(Crash):
        life.replay(fault=Fault(counter.calls.index("submit_batch") + 1, after=True))
    life.flink.forget(batch_job_id("test", "r1", 1))
    done = life.replay()
    assert (done.status, done.attempt) == ("done", 2)


def test_a_job_that_flink_forgets_while_it_is_awaited_is_run_anew(tmp_path: Path) -> None:
    """A JobManager that is killed after the job's end knows nothing of it; nor would it ever."""
    life = lived(tmp_path)
    compute = life.flink.bounded

    def forgotten(spec: BatchSpec) -> None:
        compute(spec)
        life.flink.bounded = compute
        taken = life.flink.job

        def job(job_id: str) -> Job | None:
            if job_id == spec.job_id and job_id in life.flink._jobs:
                life.flink.forget(spec.job_id)
            return taken(job_id)

        life.flink.job = job  # type: ignore[method-assign]

    life.flink.bounded = forgotten
    assert life.replay(timeout=5).attempt == 2
    assert life.rows(0, 60_000) == [(0, 1), (0, 2)]


def test_a_failed_publication_is_tried_anew_under_another_id(tmp_path: Path) -> None:
    life, counter = lived(tmp_path / "whole"), Fault()
    life.replay(fault=counter)
    life = lived(tmp_path / "it")
    with pytest.raises(Crash):
        life.replay(fault=Fault(counter.calls.index("submit_task") + 1))
    life.druid.tasks["penstock_replay_test_r1_1"] = "FAILED"
    assert life.replay().task == 2
    assert life.rows(0, 60_000) == [(0, 1), (0, 2)]


@pytest.mark.parametrize(
    "reason",
    [
        "This task disappeared on the worker where it was assigned. See overlord logs.",
        "The worker that this task is assigned did not start it in timeout[PT1M].",
    ],
)
def test_a_publication_that_dies_with_its_indexer_is_handed_off_and_tried_anew(reason: str, tmp_path: Path) -> None:
    """The tasks that read die with it: one whose end was not seen may have begun again, with rows of the range."""
    life = lived(tmp_path / "whole")
    life.replay()
    wanted = life.rows()
    life = lived(tmp_path / "it")
    submit = life.druid.submit_task

    def dies(spec: Mapping[str, Any]) -> None:
        life.druid.submit_task = submit  # type: ignore[method-assign]
        life.druid.tasks[spec["id"]] = "FAILED"
        life.druid.failure = reason
        life.druid.fail_task("sales")

    life.druid.submit_task = dies  # type: ignore[method-assign]
    done = life.replay(timeout=5)
    assert (done.status, done.task) == ("done", 2)
    assert life.rows() == wanted


def test_a_publication_that_fails_by_itself_is_not_tried_anew(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.druid.submit_task = lambda spec: life.druid.tasks.update({spec["id"]: "FAILED"})  # type: ignore[method-assign]
    with pytest.raises(PenstockError, match="failed: the reason in one line") as told:
        life.replay(timeout=5)
    assert "goes on with it" in str(told.value.hint)
    assert life.replays.read()["r1"].task == 1


def test_replays_are_listed_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    """Of a segment that was replayed twice the newest counts, whichever was begun first."""
    life = lived(tmp_path)
    first = life.replay(id="r1")
    life.replay(id="r2")
    assert list(life.replays.read()) == ["r1", "r2"]
    life.replays.write(first)
    assert list(life.replays.read()) == ["r2", "r1"]


def test_of_a_long_log_every_event_is_counted_and_a_share_of_the_windows_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.replay.verify.ALL", 1)  # so that every ninth window is compared
    assert 0 < lived(tmp_path / "good").replay().figures.compared < 6
    for damage, words in (('"_rows": 0', "have no event behind them"), (f'"window_start": {5 * HOUR}', "lie outside")):
        life = lived(tmp_path / words[:3])
        compute = life.flink.bounded

        def damaged(spec, compute=compute, damage=damage) -> None:  # type: ignore[no-untyped-def]
            compute(spec)
            folder = local(spec.folder)
            assert folder is not None
            text = (folder / "part-0").read_text()
            name = damage.partition(":")[0]
            lines = [line for line in text.splitlines() if '"window_start": 60000' in line]
            assert lines, "a window that is not compared row by row"
            wrong = [re.sub(rf"{name}: \d+", damage, line) for line in lines]
            (folder / "part-0").write_text("\n".join([*(set(text.splitlines()) - set(lines)), *wrong]) + "\n")

        life.flink.bounded = damaged
        with pytest.raises(NotEqualError, match=words) as caught:
            life.replay()
        assert "segment 1970-01-01T00:00Z: 7 events in the log" in caught.value.message


def test_a_job_that_was_stopped_before_stays_stopped(tmp_path: Path) -> None:
    life = lived(tmp_path, RAW)
    stop("sales_raw", life.services(), life.settings, timeout=0.2)
    assert life.replay().status == "done"
    assert life.registry.read()["sales_raw"].status == "stopped"
    assert not [job for job in life.flink.jobs() if job.live]
