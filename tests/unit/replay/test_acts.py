"""What the steps wait for: each guard holds on while its ground is missing, and lets go when it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.errors import PenstockError, RefusedError, UnavailableError, WaitTimeoutError
from penstock.replay import acts, publish
from penstock.replay.acts import Work, last_records
from penstock.replay.record import Cut, Replay, Settled
from penstock.replay.scope import scope
from penstock.replay.steps import Close
from penstock.services.druid import Reading
from penstock.topics import consumer_group, out_topic

from .test_plan import _replay
from .world import HOUR, RAW, SOURCE, Life, lived

OUT = out_topic("sales")


def _work(life: Life, **more: float) -> Work:
    within = scope(life.pipeline, "1970-01-01T00:00", "1970-01-01T01:00")
    return Work(life.pipeline, within, life.services(), life.settings, **({"timeout": 0.1, "steady": 0.0} | more))  # type: ignore[arg-type]


def _cut(life: Life, **changes: object) -> Replay:
    record = life.registry.read()[life.pipeline.name]
    cut = Cut({0: 0, 1: 0}, {0: 5, 1: 3}, watermark=2 * HOUR, job_id=record.job_id)
    return replace(_replay(life.pipeline), cut=cut, **changes)  # type: ignore[arg-type]


def test_close_waits_for_the_watermark(tmp_path: Path) -> None:
    life = lived(tmp_path)
    closed_at = _work(life).scope.closed_at
    assert closed_at is not None
    for watermark in (None, closed_at - 1):
        life.flink.watermarks["penstock.sales"] = watermark
        with pytest.raises(WaitTimeoutError, match="its watermark is at"):
            acts.close(_work(life), _replay(), Close(closed_at))
    assert life.flink.checkpoints == 0, "a checkpoint before the windows fired would prove nothing"
    life.flink.watermarks["penstock.sales"] = closed_at
    done = acts.close(_work(life), _replay(), Close(closed_at))
    assert done.settled is not None and done.settled.checkpoint == 1
    assert done.cut is not None and done.cut.watermark == closed_at


def test_settle_waits_until_the_job_is_past_the_cut(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.kafka.commit_group(consumer_group("test", "sales"), SOURCE.name, {0: 4})
    with pytest.raises(WaitTimeoutError, match="1 records behind the log"):
        acts.settle(_work(life), _cut(life))


def test_settle_does_not_wait_for_a_marker_that_no_job_reads(tmp_path: Path) -> None:
    """A transactional producer of the source, such as a redrive, ends its records with one."""
    life = lived(tmp_path)
    at = life.kafka.append(SOURCE.name, b"{}", transaction=True)
    life.kafka.end_transaction(SOURCE.name, commit=True)
    replay = replace(_cut(life), cut=Cut({0: 0}, life.kafka.end_offsets(SOURCE.name, committed=True)))
    life.kafka.commit_group(consumer_group("test", "sales"), SOURCE.name, {0: at})
    with pytest.raises(WaitTimeoutError, match="2 records behind the log"):
        acts.settle(_work(life), replay)
    life.kafka.commit_group(consumer_group("test", "sales"), SOURCE.name, {0: at + 1})
    assert acts.settle(_work(life, timeout=5), replay).settled is not None


@pytest.mark.parametrize("branch", ["out", "late", "dlq"])
def test_settle_waits_for_open_transactions(branch: str, tmp_path: Path) -> None:
    life = lived(tmp_path)
    topic = f"penstock.sales.{branch}"
    life.kafka.append(topic, b"{}", transaction=True)
    with pytest.raises(WaitTimeoutError, match="1 records in open transactions"):
        acts.settle(_work(life), _cut(life))
    life.kafka.end_transaction(topic, commit=True)
    assert acts.settle(_work(life), _cut(life)).settled is not None


def test_the_end_of_the_results_is_their_last_record_and_no_marker(tmp_path: Path) -> None:
    life = Life(tmp_path)
    for _ in range(3):
        life.kafka.append(OUT, b"{}", partition=1, transaction=True)
        life.kafka.end_transaction(OUT, commit=True)
    life.kafka.append(OUT, b"{}", partition=1, transaction=True)
    for _ in range(200):  # more than is looked at first
        life.kafka.end_transaction(OUT, commit=False)
        life.kafka.append(OUT, b"{}", partition=1, transaction=True)
    life.kafka.end_transaction(OUT, commit=False)
    assert last_records(life.kafka, OUT) == {1: 5}


class Tasks:
    """Druid's tasks as a test has them; notes what is asked for."""

    def __init__(self, *readings: Reading, realtime: int = 0, states: Mapping[str, str] | None = None) -> None:
        self.readings, self.realtime, self.states = list(readings), realtime, states or {}
        self.asked: list[list[int]] = []

    def reading(self, name: str) -> Reading:
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    def hand_off(self, name: str, groups: range) -> None:
        self.asked.append(list(groups))

    def realtime_segments(self, name: str, start: int, end: int) -> int:
        return self.realtime

    def task_state(self, task: str) -> str | None:
        return self.states.get(task)


def _hand_off(life: Life, tasks: Tasks, held: tuple[str, ...] = (), **more: float) -> None:
    for partition, end in {0: 4, 1: 7}.items():
        while life.kafka.end_offsets(OUT, committed=True)[partition] < end:
            life.kafka.append(OUT, b"{}", partition=partition)
    work = _work(life, **more)
    work.services = replace(work.services, druid=tasks)  # type: ignore[arg-type]
    publish.hand_off(work, _cut(life, settled=Settled(1, "", {0: 4, 1: 7}, held)))


OLD, NEW = {"old": {0: 0, 1: 0}}, {"new": {0: 4, 1: 8}}


def test_a_hand_off_is_asked_for_once_and_seen_through(tmp_path: Path) -> None:
    tasks = Tasks(Reading(OLD), Reading(OLD), Reading({}, ("old",)), Reading(NEW, ("old",)), Reading(NEW))
    tasks.states = {"old": "SUCCESS"}
    _hand_off(lived(tmp_path), tasks, steady=60, timeout=2)
    assert tasks.asked == [[0]]


def _ask(life: Life, tasks: Tasks) -> Replay:
    work = _work(life)
    work.services = replace(work.services, druid=tasks)  # type: ignore[arg-type]
    return publish.ask_hand_off(work, _cut(life, settled=Settled(1, "", {0: 4, 1: 7})))


def test_a_hand_off_is_asked_for_ahead_of_its_step_where_a_task_holds_rows(tmp_path: Path) -> None:
    life = lived(tmp_path)
    for reading, asked, held in (
        (Reading(OLD), [[0]], ("old",)),
        (Reading(NEW), [], ()),
        (Reading(OLD, ("older",)), [], ("old", "older")),
        (Reading({}), [], ()),
    ):
        tasks = Tasks(reading)
        settled = _ask(life, tasks).settled
        assert tasks.asked == asked, reading
        assert settled and settled.held == held, reading


def test_a_hand_off_that_can_not_be_asked_for_ahead_is_left_to_its_step(tmp_path: Path) -> None:
    class Away(Tasks):
        def hand_off(self, name: str, groups: range) -> None:
            raise UnavailableError("Druid does not answer")

    settled = _ask(lived(tmp_path), Away(Reading(OLD))).settled
    assert settled and not settled.held


@pytest.mark.parametrize(
    "reading",
    [Reading(OLD), Reading({"new": {0: 4, 1: 6}}), Reading(NEW, ("old",)), Reading({}), Reading({"new": {0: 4}})],
    ids=["holds rows", "began too early", "still publishing", "nobody reads", "a partition is not read"],
)
def test_a_hand_off_that_is_not_done_is_waited_for(reading: Reading, tmp_path: Path) -> None:
    with pytest.raises(WaitTimeoutError):
        _hand_off(lived(tmp_path), Tasks(reading))


def test_segments_that_only_a_task_serves_are_waited_for(tmp_path: Path) -> None:
    with pytest.raises(WaitTimeoutError, match="1 segments of the range are not loaded yet"):
        _hand_off(lived(tmp_path), Tasks(Reading(NEW), realtime=1))


def test_results_that_no_longer_are_there_are_not_waited_for(tmp_path: Path) -> None:
    work = _work(lived(tmp_path))
    with pytest.raises(RefusedError, match="was made anew since"):
        publish.hand_off(work, _cut(lived(tmp_path), settled=Settled(1, "", {0: 4_000})))


@pytest.mark.parametrize("states", [{}, {"old": "FAILED"}])
def test_where_no_success_was_seen_the_state_must_hold(states: dict[str, str], tmp_path: Path) -> None:
    """A task that fails while publishing is begun again further back, but only when the supervisor notices."""
    life = lived(tmp_path)
    with pytest.raises(WaitTimeoutError, match="no task holds rows; making sure"):
        _hand_off(life, Tasks(Reading(NEW, ("old",)), Reading(NEW), states=states), steady=60)
    failed = Tasks(Reading(NEW, ("old",)), Reading(NEW), Reading(OLD), Reading(OLD), Reading(NEW), states=states)
    _hand_off(life, failed, steady=0.05)
    assert failed.asked == [[0]]


def test_tasks_that_held_rows_when_it_was_settled_need_only_have_ended_well(tmp_path: Path) -> None:
    """Long before the step, where it was asked for ahead; one that failed was begun again further back."""
    life, held = lived(tmp_path), ("old", "older")
    _hand_off(life, Tasks(Reading(NEW), states=dict.fromkeys(held, "SUCCESS")), held, steady=60)
    with pytest.raises(WaitTimeoutError, match="no task holds rows; making sure"):
        _hand_off(life, Tasks(Reading(NEW), states={"old": "FAILED", "older": "SUCCESS"}), held, steady=60)


def test_the_guard_knows_a_stateless_start_from_a_resumed_one(tmp_path: Path) -> None:
    life = lived(tmp_path)
    replay = _cut(life)
    record = life.registry.read()["sales"]
    life.registry.write(record.but(job_id="resumed", restore="file:///savepoint"))
    publish.guard(_work(life), replay)
    life.registry.write(record.but(job_id="anew", restore=None))
    with pytest.raises(RefusedError, match="without its state"):
        publish.guard(_work(life), replay)
    life.registry.write(record.but(version="other"))
    with pytest.raises(RefusedError, match="another version"):
        publish.guard(_work(life), replay)


def test_a_log_that_was_cut_off_meanwhile_is_refused(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.kafka.append(SOURCE.name, b"{}", timestamp=9 * HOUR)
    life.kafka.expire(SOURCE.name, 0, 5)
    with pytest.raises(RefusedError, match="no longer reaches back"):
        acts.cut_log(_work(life), _replay())


def test_files_must_be_where_this_machine_sees_them(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.use(state="s3://bucket/state")
    with pytest.raises(PenstockError, match="no directory of this machine"):
        acts.clean(_work(life), _replay())


def test_a_job_that_leaves_no_savepoint_gives_no_cut(tmp_path: Path) -> None:
    life = lived(tmp_path, RAW)
    record = life.registry.read()["sales_raw"]
    life.registry.write(record.but(status="stopped", savepoint=None))
    with pytest.raises(PenstockError, match="left no savepoint"):
        acts.stop_live(_work(life), _replay(RAW))
