"""A new generation beside the old one: every record once, in the past or in the new job; it may die at any call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock import Aggregate, Datasource, Pipeline, Select
from penstock import upgrade as core
from penstock.errors import PenstockError, RefusedError, WaitTimeoutError
from penstock.flink.spec import JobSpec, version
from penstock.generation import deployed
from penstock.lifecycle import Outcome, start
from penstock.replay import launch
from penstock.replay.record import Replay
from penstock.replay.run import abandon
from penstock.services.flink import RestorePoint
from penstock.upgrade import Request, begin, begins, log_watermark

from ..memory import Crash, Fault
from .world import HOUR, RAW, SOURCE, TUMBLE, Life, lived, outcome

assert isinstance(TUMBLE.transform, Aggregate)
#: The logic changed: what is sold to b is no longer counted.
CHANGED = replace(TUMBLE, transform=replace(TUMBLE.transform, where="id <> 'b'"))
PASSED = Pipeline("sales_raw", SOURCE, Select(columns=["id", "at"]), Datasource())
NEW = {"windowed": CHANGED, "pass-through": PASSED}
OLD = {"windowed": TUMBLE, "pass-through": RAW}


def upgrade(life: Life, new: Pipeline, since: int = 0, fault: Fault | None = None, **more: Any) -> Replay:
    """Plan and run an upgrade as the command line does, or go on with one that died."""
    life.pipeline = new
    services = life.services(fault)
    request = Request(since, dry_run=more.pop("dry_run", False), allow=more.pop("allow", ()))
    begun = begin(new, request, services, life.settings, id=more.pop("id", "u1"))
    done = core.upgrade(new, begun, services, life.settings, **({"timeout": 0.2, "steady": 0.0} | more))
    assert isinstance(done, Replay), done
    return done


def late(life: Life, topic: str) -> int:
    return sum(life.kafka.end_offsets(topic, committed=True).values())


def test_the_past_is_computed_by_the_new_logic_and_the_new_job_goes_on(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.arrive(HOUR + 200_000, partition=1)
    life.live()
    assert (30 * 60_000, 1) in life.rows(), "b is counted by the old logic"
    done = upgrade(life, CHANGED)
    assert done.status == "done"
    assert life.rows(0, HOUR) == [(0, 2), (60_000, 1), (59 * 60_000, 1)], "the late ones of b are not counted"
    assert life.rows(HOUR) == [(HOUR + 60_000, 1)], "what the new job had by then is published with it"
    record = life.registry.read()["sales"]
    assert (record.version, record.status) == (version(CHANGED), "running")
    assert deployed(CHANGED, record).stream == "sales.1"
    assert [job.name for job in life.flink.jobs() if job.live] == ["penstock.sales.1"]
    life.arrive(HOUR + 300_000, partition=1)
    life.live()
    assert life.rows(HOUR) == [(HOUR + 60_000, 1), (HOUR + 180_000, 1)]
    assert life.plan([CHANGED]).changes == []
    assert done.cut is not None
    assert done.settled is not None
    assert done.cut.job_id == record.job_id
    point = RestorePoint(f"memory:/checkpoints/{record.job_id}/chk-{(done.settled.checkpoint or 0) - 1}")
    life.flink.end("penstock.sales.1", point=point)
    refused = life.plan([CHANGED]).refused
    assert [step.flag for step in refused] == ["older-state"], "it would write again what was published as the tail"


def test_what_comes_for_the_past_after_the_cut_is_late_and_counted_by_the_next_replay(tmp_path: Path) -> None:
    life = lived(tmp_path)
    upgrade(life, CHANGED)
    before = life.rows()
    life.arrive(4_000, id="c", partition=1)
    life.live()
    assert life.rows() == before
    assert late(life, "penstock.sales.1.late") == 1
    life.replay(id="r2")
    assert life.rows(0, 60_000) == [(0, 1), (0, 2)]


def test_late_events_before_the_range_are_not_left_behind_without_a_word(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.arrive(2 * HOUR + 90_000, partition=1)
    life.live()
    words = "2 late events before 1970-01-01T01:00Z are not healed"
    with pytest.raises(RefusedError, match=words) as caught:
        upgrade(life, CHANGED, since=HOUR)
    assert life.replays.read() == {}
    ways = "--replay-from 1970-01-01T00:00Z counts them", "`penstock repair sales --to 1970-01-01T01:00Z`"
    assert all(way in (caught.value.hint or "") for way in (*ways, "--allow unhealed"))
    assert upgrade(life, CHANGED, since=HOUR, dry_run=True, id="d1").status == "dry", "it changes nothing"
    life.pipeline = TUMBLE
    life.replay(id="r1")
    assert upgrade(life, CHANGED, since=HOUR).status == "done"


def test_late_events_in_the_range_or_of_records_that_are_gone_are_no_reason(tmp_path: Path) -> None:
    life = lived(tmp_path / "it")
    assert upgrade(life, CHANGED).status == "done"
    life = lived(tmp_path / "gone")
    life.arrive(2 * HOUR + 90_000, partition=1)
    life.live()
    life.kafka.expire(SOURCE.name, 0, 5)
    begun = begin(CHANGED, Request(HOUR), life.services(), life.settings)
    assert begun is not None and begun.plan is not None
    assert not [it for it in begun.plan.refused if "healed" in it.reason]


def test_they_may_be_left_behind_by_name(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.arrive(2 * HOUR + 90_000, partition=1)
    life.live()
    assert upgrade(life, CHANGED, since=HOUR, allow=[core.UNHEALED]).status == "done"


def test_figures_before_the_range_stay(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.arrive(2 * HOUR + 90_000, partition=1)
    life.live()
    first = life.rows(0, HOUR)
    done = upgrade(life, CHANGED, since=HOUR, allow=[core.UNHEALED])
    assert (done.asked.wide_start, done.asked.wide_end) == (HOUR, 2 * HOUR)
    assert life.rows(0, HOUR) == first


def test_a_pass_through_pipeline_hands_over_at_its_savepoint(tmp_path: Path) -> None:
    life = lived(tmp_path, RAW)
    before = life.rows()
    life.arrive(5_000)  # not read by the old job when it is stopped
    done = upgrade(life, PASSED)
    assert done.cut is not None and done.cut.high == {0: 5, 1: 3}
    assert life.rows() == before
    life.live()
    assert life.rows() == sorted([*before, (5_000, 1)])


@pytest.mark.parametrize("name", NEW)
def test_killed_at_any_call_and_run_again_it_ends_the_same(name: str, tmp_path: Path) -> None:
    life, counter = lived(tmp_path / "whole", OLD[name]), Fault()
    upgrade(life, NEW[name], fault=counter)
    life.live()
    wanted = outcome(life)
    assert len(counter.calls) > 15
    for at in range(1, len(counter.calls) + 1):
        for after in (False, True):
            life = lived(tmp_path / f"{at}{after}", OLD[name])
            with pytest.raises(Crash):
                upgrade(life, NEW[name], fault=Fault(at, after))
            upgrade(life, NEW[name])
            life.live()
            call = f"{'after' if after else 'before'} call {at} ({counter.calls[at - 1]})"
            assert outcome(life).replace(f"{at}{after}", "whole") == wanted, f"died {call}"


@pytest.mark.parametrize("name", NEW)
def test_given_up_before_it_is_published_everything_is_as_before(name: str, tmp_path: Path) -> None:
    life, counter = lived(tmp_path / "whole", OLD[name]), Fault()
    before = life.rows()
    upgrade(life, NEW[name], fault=counter)
    published = counter.calls.index("submit_task") + 1
    for at in range(2, published):
        life = lived(tmp_path / str(at), OLD[name])
        with pytest.raises(Crash):
            upgrade(life, NEW[name], fault=Fault(at))
        done = abandon(NEW[name], life.replays.read()["u1"], life.services(), life.settings, timeout=0.2)
        assert done.status == "abandoned"
        life.pipeline = OLD[name]
        life.live()
        assert life.rows() == before
        assert [job.name for job in life.flink.jobs() if job.live] == [f"penstock.{OLD[name].name}"]
        assert not life.kafka.topics([f"penstock.{OLD[name].name}.1.out"])
        assert life.plan([OLD[name]]).changes == []
        assert upgrade(life, NEW[name], id="u2").status == "done"


def test_once_published_it_is_finished_and_not_given_up(tmp_path: Path) -> None:
    life, counter = lived(tmp_path / "whole"), Fault()
    upgrade(life, CHANGED, fault=counter)
    life = lived(tmp_path / "it")
    with pytest.raises(Crash):
        upgrade(life, CHANGED, fault=Fault(counter.calls.index("submit_task") + 1, after=True))
    with pytest.raises(RefusedError, match="has begun to replace what was there"):
        abandon(CHANGED, life.replays.read()["u1"], life.services(), life.settings, timeout=0.2)
    assert upgrade(life, CHANGED).status == "done"


def test_while_it_is_under_way_apply_does_nothing(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(Crash):
        upgrade(life, CHANGED, fault=Fault(8))
    (refused,) = life.plan([CHANGED]).refused
    assert "an upgrade is under way: `penstock upgrade sales` finishes it" in refused.reason
    with pytest.raises(RefusedError):
        life.apply([CHANGED])


def test_a_job_of_another_version_that_was_started_meanwhile_stops_it(tmp_path: Path) -> None:
    life, counter = lived(tmp_path / "whole"), Fault()
    upgrade(life, CHANGED, fault=counter)
    life = lived(tmp_path / "it")
    with pytest.raises(Crash):
        upgrade(life, CHANGED, fault=Fault(counter.calls.index("stop_with_savepoint") + 1))
    record = life.registry.read()["sales"]
    life.registry.write(record.but(version="another"))
    with pytest.raises(RefusedError, match="another version has been applied since"):
        upgrade(life, CHANGED)


def test_a_new_pipeline_begins_with_its_past(tmp_path: Path) -> None:
    life = Life(tmp_path, RAW)
    life.arrive(1_000, 2_000, 61_000, HOUR + 80_000)
    life.arrive(30 * 60_000, HOUR + 90_000, 61_500, partition=1)
    life.live()
    assert begins([RAW, TUMBLE], life.services()) == [TUMBLE]
    done = upgrade(life, TUMBLE)
    assert (done.status, done.generation) == ("done", 0)
    life.live()
    assert life.rows() == [(0, 2), (60_000, 2), (30 * 60_000, 1)], "without a gap, and what is out of order too"
    assert begins([RAW, TUMBLE], life.services()) == []
    assert life.plan([RAW, TUMBLE]).changes == []
    life.arrive(HOUR + 200_000, partition=1)
    life.live()
    assert (HOUR + 60_000, 2) in life.rows()


def test_a_dry_run_starts_no_job_and_changes_nothing(tmp_path: Path) -> None:
    for name, new in NEW.items():
        life = lived(tmp_path / name, OLD[name])
        before, topics = life.rows(), set(life.kafka._states)
        done = upgrade(life, new, dry_run=True)
        assert done.status == "dry"
        assert life.rows() == before
        assert set(life.kafka._states) - topics == {"penstock.replays"}
        assert [job.name for job in life.flink.jobs() if job.live] == [f"penstock.{new.name}"]


@pytest.mark.parametrize(
    ("new", "since", "slots", "words"),
    [
        (CHANGED, HOUR, 8, "nothing of the range is past: windows from 1970-01-01T01:00Z on are still open"),
        (CHANGED, 0, 2, "Flink has 2 free slots, the new job and the replay need 3"),
    ],
)
def test_it_is_refused_before_anything_is_done(
    new: Pipeline, since: int, slots: int, words: str, tmp_path: Path
) -> None:
    life = lived(tmp_path)
    life.flink.slots = slots
    with pytest.raises(RefusedError, match=words):
        upgrade(life, new, since)
    assert life.replays.read() == {}
    assert [job.name for job in life.flink.jobs() if job.live] == ["penstock.sales"]


def test_where_the_declared_version_runs_there_is_nothing_to_do(tmp_path: Path) -> None:
    life = lived(tmp_path)
    services, before = life.services(), life.state()
    begun = begin(TUMBLE, Request(0), services, life.settings)
    assert begun is None
    done = core.upgrade(TUMBLE, begun, services, life.settings, timeout=0.2)
    assert done == Outcome("sales", False, (f"sales: nothing to do, version {version(TUMBLE)} runs",))
    assert life.state() == before
    with pytest.raises(RefusedError, match="runs already"):
        upgrade(life, TUMBLE, dry_run=True)


def test_a_dry_run_does_not_go_on_with_one_that_is_not_finished(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(Crash):
        upgrade(life, CHANGED, fault=Fault(4))
    before = outcome(life)
    with pytest.raises(RefusedError, match="upgrade u1 is not finished"):
        upgrade(life, CHANGED, dry_run=True, id="u2")
    assert outcome(life) == before


def test_a_new_job_that_does_not_come_up_leaves_the_old_one_alone(tmp_path: Path) -> None:
    life = lived(tmp_path)
    before = life.rows()
    begun = life.flink.begun

    def failing(spec: JobSpec) -> None:
        begun(spec)
        life.flink.set_state(spec.name, "FAILED", reason="a cast that fails")

    life.flink.begun = failing
    with pytest.raises(PenstockError, match=r"penstock.sales.1 does not run: a cast that fails"):
        upgrade(life, CHANGED)
    assert life.rows() == before
    assert "penstock.sales" in [job.name for job in life.flink.jobs() if job.live]
    life.flink.begun = begun
    abandon(CHANGED, life.replays.read()["u1"], life.services(), life.settings, timeout=0.2)
    assert start("sales", [TUMBLE], life.services(), life.settings).changed is False


def test_a_new_job_that_goes_back_before_its_checkpoint_is_looked_at_again(tmp_path: Path) -> None:
    life = lived(tmp_path)
    take, taken = life.flink.trigger_checkpoint, list[int]()

    def restored_once(job_id: str, *, timeout: float = 60) -> int:
        taken.append(take(job_id, timeout=timeout))
        life.flink.restores[job_id] = (1, 1)
        return taken[-1]

    life.flink.trigger_checkpoint = restored_once  # type: ignore[method-assign]
    done = upgrade(life, CHANGED, timeout=5)
    assert done.settled is not None
    assert len(taken) == 2, "what had fired may not be in the first"
    assert done.settled.checkpoint == taken[1]


def test_the_logs_watermark_is_told_by_what_can_be_read(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.arrive(60_000)
    life.arrive(90_000, partition=1)
    for value in (b"[" * 100_000, b"\xff", b"{}", b'{"at": "x"}', b'{"at": 99000000}', None):
        life.kafka.append(SOURCE.name, value, timestamp=60_000)
    assert log_watermark(TUMBLE, life.kafka) == 60_000 - 5_000


def test_an_old_job_that_flink_has_forgotten_holds_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = lived(tmp_path)
    old, begun = life.registry.read()["sales"].job_id, launch.begin

    def forgotten(work: Any, replay: Replay) -> Replay:
        life.flink.end("penstock.sales", point=RestorePoint("memory:/checkpoints/it/chk-1"))
        life.flink.forget(old)
        return begun(work, replay)

    monkeypatch.setattr(launch, "begin", forgotten)
    assert upgrade(life, CHANGED).status == "done"


def test_what_a_task_may_be_reading_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life, counter = lived(tmp_path / "whole"), Fault()
    upgrade(life, CHANGED, fault=counter)
    life = lived(tmp_path / "it")
    with pytest.raises(Crash):
        upgrade(life, CHANGED, fault=Fault(counter.calls.index("submit_task") + 1, after=True))
    assert life.replays.read()["u1"].handover is not None

    def written(*words: Any) -> Any:
        raise AssertionError("it is there")

    monkeypatch.setattr(launch, "_write_tail", written)
    assert upgrade(life, CHANGED).status == "done"


def test_another_range_does_not_go_on_with_one_that_is_not_finished(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(Crash):
        upgrade(life, CHANGED, fault=Fault(4))
    with pytest.raises(RefusedError, match="was begun with --replay-from 1970-01-01T00:00Z"):
        upgrade(life, CHANGED, since=60_000, id="u2")
    assert upgrade(life, CHANGED, id="u2").id == "u1"


def beyond(root: Path) -> Life:
    """A life in which the old job has served a window that is the new one's."""
    life = lived(root)
    life.arrive(HOUR + 200_000, partition=1)
    life.live()
    return life


def test_a_new_job_that_restarts_as_its_checkpoint_is_due_is_waited_for(tmp_path: Path) -> None:
    life, failed = lived(tmp_path), list[str]()
    take = life.flink.trigger_checkpoint

    def restarting_once(job_id: str, *, timeout: float = 60) -> int:
        if not failed:
            failed.append(job_id)
            raise PenstockError(f"job {job_id}: the checkpoint failed: not all required tasks are running")
        return take(job_id, timeout=timeout)

    life.flink.trigger_checkpoint = restarting_once  # type: ignore[method-assign]
    done = upgrade(life, CHANGED, timeout=5)
    assert failed and done.status == "done"


def test_a_new_job_that_has_failed_as_its_checkpoint_is_due_ends_it(tmp_path: Path) -> None:
    life = lived(tmp_path)

    def failing(job_id: str, *, timeout: float = 60) -> int:
        life.flink.set_state("penstock.sales.1", "FAILED", reason="a cast that fails")
        raise PenstockError(f"job {job_id}: the checkpoint failed")

    life.flink.trigger_checkpoint = failing  # type: ignore[method-assign]
    with pytest.raises(PenstockError, match=r"penstock.sales.1 does not run: a cast that fails"):
        upgrade(life, CHANGED, timeout=5)


@pytest.mark.parametrize("shown", [None, HOUR])
def test_a_new_job_that_restarts_does_not_stand_still(shown: int | None, tmp_path: Path) -> None:
    """Its watermark is unknown, or what it was before: a window that is served would be gone until it fires."""
    life, seen = beyond(tmp_path), list[str]()
    tell, stop, take = life.flink.watermark, life.flink.stop_with_savepoint, life.flink.trigger_checkpoint

    def stopped(*words: Any, **more: Any) -> str:
        life.flink.set_state("penstock.sales.1", "RESTARTING")
        seen.append("the old job stops")
        return stop(*words, **more)

    def watermark(job_id: str) -> int | None:
        if not seen or len(seen) > 5:
            if seen:
                life.flink.set_state("penstock.sales.1", "RUNNING")
            return tell(job_id)
        seen.append("it restarts")
        return shown

    def checkpoint(job_id: str, *, timeout: float = 60) -> int:
        seen.append("a checkpoint")
        return take(job_id, timeout=timeout)

    life.flink.stop_with_savepoint = stopped  # type: ignore[method-assign]
    life.flink.watermark = watermark  # type: ignore[method-assign]
    life.flink.trigger_checkpoint = checkpoint  # type: ignore[method-assign]
    assert upgrade(life, CHANGED, timeout=5).status == "done"
    assert seen.index("a checkpoint") > 5, seen
    assert (HOUR + 60_000, 1) in life.rows()


def test_a_new_job_without_a_watermark_is_waited_for_where_a_window_of_its_own_is_served(tmp_path: Path) -> None:
    life = beyond(tmp_path / "its")
    tell = life.flink.watermark
    life.flink.watermark = lambda job_id: None if life.flink._jobs[job_id].name.endswith(".1") else tell(job_id)  # type: ignore[method-assign]
    with pytest.raises(WaitTimeoutError, match="its watermark is not known"):
        upgrade(life, CHANGED)
    assert "penstock.sales" in [job.name for job in life.flink.jobs() if job.live], "the old one is not stopped yet"


def test_without_windows_the_old_jobs_slots_are_free_when_it_is_stopped(tmp_path: Path) -> None:
    life = lived(tmp_path, RAW)
    life.flink.slots = 0
    with pytest.raises(RefusedError, match=r"Flink has 2 free slots with those of the old job, .* need 3"):
        upgrade(life, PASSED)
    life.flink.slots = 1
    assert upgrade(life, PASSED).status == "done"


def test_results_of_the_new_job_that_have_expired_are_not_left_out_in_silence(tmp_path: Path) -> None:
    life, counter = beyond(tmp_path / "whole"), Fault()
    before = life.rows()
    upgrade(life, CHANGED, fault=counter)
    life = beyond(tmp_path / "it")
    with pytest.raises(Crash):
        upgrade(life, CHANGED, fault=Fault(counter.calls.index("submit_task") - 1))
    handed = life.replays.read()["u1"].handover
    assert handed is not None and handed.offsets
    life.kafka.expire("penstock.sales.1.out", 0, 1)
    with pytest.raises(
        RefusedError,
        match=r"penstock.sales.1.out begins later .* results of the new job are gone: partition 0 at offset 1",
    ):
        upgrade(life, CHANGED)
    assert life.rows() == before
    abandon(CHANGED, life.replays.read()["u1"], life.services(), life.settings, timeout=0.2)
    assert [job.name for job in life.flink.jobs() if job.live] == ["penstock.sales"]
