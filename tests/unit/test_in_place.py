"""An upgrade in place: compared before anything is stopped, and taken back only while that repeats no row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.errors import DeclarationError, PenstockError, RefusedError
from penstock.flink.spec import version
from penstock.flink.state import differences
from penstock.in_place import upgrade
from penstock.lifecycle import stop
from penstock.pipeline import Aggregate, Pipeline
from penstock.replay.record import Asked, Cut, Replay, Settled
from penstock.services.flink import RestorePoint

from .memory import Crash, Fault, World, windowed

OLD = windowed()
assert isinstance(OLD.transform, Aggregate)
NEW = replace(OLD, transform=replace(OLD.transform, where="price > 0"))
NEXT = replace(OLD, transform=replace(OLD.transform, where="price > 1"))


def plan(*nodes: tuple[str, dict[str, object]]) -> str:
    numbered = [{"id": at, "type": f"stream-exec-{kind}_1", **more} for at, (kind, more) in enumerate(nodes, start=1)]
    edges = [{"source": at, "target": at + 1} for at in range(1, len(nodes))]
    return json.dumps({"nodes": numbered, "edges": edges})


def job(condition: str = "", selected: str = "price", calls: str = "COUNT", extra: bool = False) -> str:
    calc = {"description": f"Calc(select=[{selected}]" + (f", where=[{condition}])" if condition else ")")}
    nodes: list[tuple[str, dict[str, object]]] = [("table-source-scan", {}), ("calc", calc)]
    nodes += [("calc", calc)] if extra else []
    return plan(*nodes, ("global-window-aggregate", {"aggCalls": [calls], "grouping": [0]}), ("sink", {}))


def test_a_condition_and_what_stands_behind_the_state_may_change() -> None:
    assert differences(job("a"), job("b")) == []
    assert differences(job("a"), job("a")) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (job("a", calls="SUM"), 'operator 3 (global window aggregate): aggCalls was ["COUNT"], and is ["SUM"]'),
        (
            job("a", selected="price * 2"),
            "operator 2 (calc): input was Calc(select=[price], and is Calc(select=[price * 2]",
        ),
        (job("a", extra=True), "operator 3 was global window aggregate, and is calc: the job has other parts"),
    ],
)
def test_what_is_in_the_state_may_not(other: str, words: str) -> None:
    assert differences(job("a"), other) == [words]


def test_the_type_of_a_row_is_told_as_its_columns() -> None:
    def local(kind: object) -> str:
        fields = [{"name": "carrier", "fieldType": "VARCHAR"}, {"name": "$f4", "fieldType": kind}]
        return plan(("global-window-aggregate", {"localAggInputRowType": {"type": "ROW", "fields": fields}}))

    (words,) = differences(local("BIGINT"), local({"kind": "ROWTIME"}))
    assert words.endswith('was carrier VARCHAR, $f4 BIGINT, and is carrier VARCHAR, $f4 {"kind": "ROWTIME"}')
    assert differences(local("BIGINT"), local("BIGINT")) == []


def applied(root: Path) -> World:
    world = World(root)
    world.apply([OLD])
    world.flink.plans = {version(OLD): job("a"), version(NEW): job("b")}
    return world


def run(world: World, pipeline: Pipeline = NEW, fault: Fault | None = None) -> tuple[bool, tuple[str, ...]]:
    done = upgrade(pipeline, world.services(fault), world.settings, timeout=0.2, steady=0)
    return done.changed, done.lines


def versions(world: World) -> list[str]:
    """The version of the job that runs, by its id."""
    live = {job.id for job in world.flink.jobs() if job.live}
    return [spec.version for spec in world.flink.specs if spec.job_id in live]


def test_it_goes_on_from_a_savepoint(tmp_path: Path) -> None:
    world = applied(tmp_path)
    changed, lines = run(world)
    assert changed and f"version {version(NEW)} goes on where {version(OLD)} stood" in lines[0]
    assert versions(world) == [version(NEW)]
    spec = world.flink.specs[-1]
    assert spec.restore is not None and "savepoint-" in spec.restore
    assert world.plan([NEW]).changes == []
    assert run(world) == (False, (f"sales: nothing to do, version {version(NEW)} runs",))


def test_state_that_does_not_fit_is_refused_before_the_old_job_stops(tmp_path: Path) -> None:
    world = applied(tmp_path)
    world.flink.plans[version(NEW)] = job("b", calls="SUM")
    before = world.state()
    with pytest.raises(RefusedError, match=r"(?s)nothing was stopped.*aggCalls was") as caught:
        run(world)
    assert "--replay-from" in str(caught.value.hint)
    assert world.state() == before


def test_what_was_never_started_can_not_be_upgraded(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="has no job"):
        run(World(tmp_path))


def test_a_version_of_which_nothing_is_noted_is_refused(tmp_path: Path) -> None:
    world = applied(tmp_path)
    world.registry.write(world.registry.read()["sales"].but(declared={}))
    with pytest.raises(RefusedError, match="was not noted"):
        run(world)
    assert versions(world) == [version(OLD)]


def fail_new_ones(world: World, checkpoint: int | None = None, made: Pipeline = NEW) -> None:
    """Let the new version's jobs fail, after that checkpoint or without one."""

    def begun(spec: object) -> None:
        last = world.flink.specs[-1]
        if last.version == version(made):
            path = f"memory:/checkpoints/{last.job_id}/chk-{checkpoint}" if checkpoint else None
            world.flink.completed[last.job_id] = 0  # as a restarted JobManager counts
            world.flink.end(last.name, point=RestorePoint(path), reason="a cast that fails")

    world.flink.begun = begun


def test_a_new_version_that_has_committed_nothing_is_taken_back(tmp_path: Path) -> None:
    world = applied(tmp_path)
    fail_new_ones(world)
    with pytest.raises(PenstockError, match=f"version {version(OLD)} runs again, from the same savepoint"):
        run(world)
    assert versions(world) == [version(OLD)]
    assert world.flink.specs[-1].restore == world.flink.specs[-2].restore
    assert world.plan([OLD]).changes == []


def test_one_that_has_committed_results_is_not(tmp_path: Path) -> None:
    world = applied(tmp_path)
    fail_new_ones(world, checkpoint=9)
    with pytest.raises(PenstockError, match="would repeat rows"):
        run(world)
    assert versions(world) == []


def begin_well(world: World) -> None:
    world.flink.begun = lambda spec: None


@pytest.mark.parametrize("status", ["starting", "running"])
def test_upgraded_again_it_goes_on_from_its_own_checkpoint(status: str, tmp_path: Path) -> None:
    world = applied(tmp_path)
    fail_new_ones(world, checkpoint=9)
    with pytest.raises(PenstockError, match="would repeat rows"):
        run(world)
    failed = world.registry.write(world.registry.read()["sales"].but(status=status))
    begin_well(world)
    assert run(world)[0]
    assert versions(world) == [version(NEW)]
    last = world.flink.specs[-1]
    assert last.restore == f"memory:/checkpoints/{failed.job_id}/chk-9", "the savepoint's rows are committed already"
    assert last.job_id != failed.job_id
    assert world.plan([NEW]).changes == []


def test_what_a_version_left_that_flink_can_not_tell_of_is_not_gone_back_from(tmp_path: Path) -> None:
    world = applied(tmp_path)

    def begun(spec: object) -> None:
        last = world.flink.specs[-1]
        world.flink.completed[last.job_id] = 0
        world.flink.end(last.name, point=RestorePoint(unseen=True), reason="a cast that fails")

    world.flink.begun = begun
    with pytest.raises(PenstockError, match="would repeat rows"):
        run(world)
    assert versions(world) == []


def test_the_next_version_goes_on_from_what_the_failed_one_left(tmp_path: Path) -> None:
    world = applied(tmp_path)
    fail_new_ones(world, checkpoint=9)
    with pytest.raises(PenstockError, match="would repeat rows"):
        run(world)
    failed = world.registry.read()["sales"]
    world.flink.plans[version(NEXT)] = job("c")
    assert run(world, NEXT)[0]
    assert versions(world) == [version(NEXT)]
    assert world.flink.specs[-1].restore == f"memory:/checkpoints/{failed.job_id}/chk-9"


def test_a_stopped_job_is_not_said_to_run(tmp_path: Path) -> None:
    world = applied(tmp_path)
    stop("sales", world.services(), world.settings)
    assert run(world, OLD) == (False, ("sales: nothing to do, stopped; `penstock start sales` resumes it",))
    assert versions(world) == []


def test_one_whose_state_is_lost_is_refused(tmp_path: Path) -> None:
    world = applied(tmp_path)
    world.flink.end("penstock.sales", point=RestorePoint())
    with pytest.raises(RefusedError, match="neither a savepoint nor a checkpoint") as caught:
        run(world, OLD)
    assert "--allow stateless-restart" in str(caught.value.hint)
    with pytest.raises(PenstockError, match="neither a savepoint nor a checkpoint"):
        run(world, NEW)
    assert versions(world) == []


def test_one_that_never_got_anywhere_goes_on_from_what_it_began_with(tmp_path: Path) -> None:
    world = applied(tmp_path)
    run(world)
    savepoint = world.flink.specs[-1].restore
    world.flink.end("penstock.sales", point=RestorePoint(never=True))
    world.flink.plans[version(NEXT)] = job("c")
    assert run(world, NEXT)[0]
    assert world.flink.specs[-1].restore == savepoint


def test_one_that_restarts_again_and_again_has_not_begun_well(tmp_path: Path) -> None:
    """A checkpoint may come before the record that it fails at."""
    world, looks = applied(tmp_path), list[int]()

    def restored(job_id: str) -> tuple[int, int]:
        looks.append(len(looks))
        return len(looks) // 2, 0

    world.flink.restored = restored  # type: ignore[method-assign]
    with pytest.raises(PenstockError, match="it runs, since its last restart for less than 1 s"):
        upgrade(NEW, world.services(), world.settings, timeout=2, steady=1)
    assert len(looks) > 4


def test_killed_at_any_call_and_run_again_the_new_version_runs(tmp_path: Path) -> None:
    world, counter = applied(tmp_path / "whole"), Fault()
    run(world, fault=counter)
    assert len(counter.calls) > 4
    for at in range(1, len(counter.calls) + 1):
        for after in (False, True):
            world = applied(tmp_path / f"{at}{after}")
            with pytest.raises(Crash):
                run(world, fault=Fault(at, after))
            run(world)
            place = f"{'after' if after else 'before'} call {at} ({counter.calls[at - 1]})"
            assert versions(world) == [version(NEW)], place
            assert world.flink.specs[-1].restore is not None, place
            assert world.plan([NEW]).changes == [], place


def test_a_state_older_than_a_replay_is_not_upgraded_from(tmp_path: Path) -> None:
    world = applied(tmp_path)
    job = world.flink.specs[-1].job_id
    world.flink.end("penstock.sales", point=RestorePoint(f"memory:/checkpoints/{job}/chk-6"))
    cut, asked = Cut({}, {}, job_id=job), Asked(0, 60_000, 0, 60_000)
    receipt = Replay("fix", "sales", "v", asked, status="done", cut=cut, settled=Settled(7, "", {}))
    world.replays.write(receipt)
    with pytest.raises(RefusedError, match="chk-6 is older than replay fix"):
        run(world)
    assert len(world.flink.specs) == 1
    world.replays.write(receipt.but(settled=Settled(6, "", {})))
    assert run(world)[0]


def test_it_is_refused_before_the_old_job_stops(tmp_path: Path) -> None:
    world = applied(tmp_path)
    world.flink.checkpoints = 6
    cut, asked = Cut({}, {}, job_id=world.flink.specs[-1].job_id), Asked(0, 60_000, 0, 60_000)
    world.replays.write(Replay("fix", "sales", "v", asked, status="done", cut=cut, settled=Settled(7, "", {})))
    before = world.state()
    with pytest.raises(RefusedError, match="chk-6 is older than replay fix"):
        run(world)
    assert world.state() == before
    assert versions(world) == [version(OLD)]


WIDER = replace(OLD, transform=replace(OLD.transform, measures={"n": "COUNT(*)", "most": "MAX(price)"}))


def widened(root: Path) -> World:
    world = applied(root)
    world.flink.plans[version(WIDER)] = job("b")
    return world


def test_druid_knows_a_new_column_before_it_is_written(tmp_path: Path) -> None:
    world, counter = widened(tmp_path / "whole"), Fault()
    run(world, WIDER, counter)
    calls = counter.calls
    assert calls.index("post_supervisor") < calls.index("submit")
    assert world.plan([WIDER]).changes == []


def test_killed_at_any_call_with_a_new_column_the_supervisor_is_as_declared(tmp_path: Path) -> None:
    counter = Fault()
    run(widened(tmp_path / "whole"), WIDER, counter)
    for at in range(1, len(counter.calls) + 1):
        world = widened(tmp_path / str(at))
        with pytest.raises(Crash):
            run(world, WIDER, Fault(at, after=True))
        run(world, WIDER)
        assert (versions(world), world.plan([WIDER]).changes) == ([version(WIDER)], []), counter.calls[at - 1]


def test_taken_back_druid_reads_the_old_columns_again(tmp_path: Path) -> None:
    world = widened(tmp_path)
    fail_new_ones(world, made=WIDER)
    with pytest.raises(PenstockError, match="it had committed nothing"):
        run(world, WIDER)
    assert world.plan([OLD]).changes == []
