"""Stop, start and remove: idempotent, and what is kept brings a pipeline back where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock import render
from penstock.errors import DeclarationError, PenstockError, RefusedError
from penstock.lifecycle import Outcome, remove, start, stop
from penstock.lock import environment_lock
from penstock.services.flink import RestorePoint
from tests.unit.memory import World, raw, windowed


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.apply([windowed(), raw()])
    return made


def do_stop(world: World, **more: bool) -> Outcome:
    return stop("sales", world.services(), world.settings, **more)


def do_start(world: World, *allow: str, **changes: object) -> Outcome:
    return start(
        "sales", [windowed(**changes), raw()], world.services(), world.settings, allow=frozenset(allow), timeout=0.2
    )


def do_remove(world: World, **flags: bool) -> Outcome:
    return remove("sales", world.services(), world.settings, **flags)


def live(world: World) -> list[str]:
    return sorted(job.name for job in world.flink.jobs() if job.live)


def test_stop_takes_a_savepoint_and_start_resumes_from_it(world: World) -> None:
    first = world.flink.specs[0].job_id
    outcome = do_stop(world)
    savepoint = f"memory:/savepoints/sales/savepoint-{first[:6]}-1"
    assert outcome.changed
    assert savepoint in outcome.lines[1]
    assert live(world) == ["penstock.sales_raw"]
    assert world.druid.supervisors()["sales"].running, "Druid goes on serving"
    assert do_start(world).changed
    assert world.flink.specs[-1].restore == savepoint
    assert world.flink.specs[-1].job_id != first
    assert world.registry.read()["sales"].savepoint is None
    assert live(world) == ["penstock.sales", "penstock.sales_raw"]


def test_stopping_and_starting_again_say_so(world: World) -> None:
    assert "runs already" in do_start(world).lines[0]
    do_stop(world)
    before = world.state()
    again = do_stop(world)
    assert (again.changed, again.lines[0]) == (False, "sales is stopped already")
    assert world.state() == before
    do_start(world)
    assert not do_start(world).changed


def test_apply_leaves_a_stopped_job_stopped(world: World) -> None:
    do_stop(world)
    made = world.apply([windowed(), raw()])
    assert made.changes == []
    assert render.summary(made) == "nothing to do: 12 resources as declared, 1 with a note: see the plan"
    assert live(world) == ["penstock.sales_raw"]
    assert "`penstock start sales` resumes it" in next(s.reason for s in made.steps if s.subject == "penstock.sales")


def test_another_version_is_not_resumed(world: World) -> None:
    do_stop(world)
    with pytest.raises(RefusedError, match="can't be used") as caught:
        do_start(world, measures={"n": "MAX(price)"})
    assert "--allow stateless-restart" in (caught.value.hint or "")
    declared = [windowed(measures={"n": "MAX(price)"}), raw()]
    assert [step.flag for step in world.plan(declared).refused] == ["stateless-restart"]
    do_start(world, "stateless-restart", measures={"n": "MAX(price)"})
    assert (world.flink.specs[-1].restore, world.flink.specs[-1].startup) == (None, "group-offsets")


def test_a_job_that_can_take_no_savepoint_is_cancelled(world: World) -> None:
    first = world.flink.specs[0].job_id
    assert do_stop(world, cancel=True).changed
    do_start(world)
    assert world.flink.specs[-1].restore == f"memory:/checkpoints/{first}/chk-7"


def test_stopping_a_failed_job_keeps_its_last_checkpoint(world: World) -> None:
    world.flink.end("penstock.sales", point=RestorePoint("memory:/chk-9"))
    assert "memory:/chk-9" in do_stop(world).lines[1]
    do_start(world)
    assert world.flink.specs[-1].restore == "memory:/chk-9"


def test_stopping_a_job_that_never_got_anywhere(world: World) -> None:
    world.flink.end("penstock.sales", point=RestorePoint(never=True))
    assert "the earliest offset" in do_stop(world).lines[1]
    assert not do_stop(world).changed
    do_start(world)
    assert (world.flink.specs[-1].restore, world.flink.specs[-1].startup) == (None, "earliest-offset")


def test_stopping_a_job_that_lost_its_state_says_so(world: World) -> None:
    world.flink.forget(world.flink.end("penstock.sales", point=RestorePoint("x")), files=False)
    with pytest.raises(PenstockError, match="neither a savepoint nor a checkpoint") as caught:
        do_stop(world)
    assert "stateless-restart:sales" in (caught.value.hint or "")
    assert [step.flag for step in world.plan([windowed(), raw()]).refused] == ["stateless-restart"]


def test_names_that_are_unknown(world: World) -> None:
    with pytest.raises(DeclarationError, match="applied: sales, sales_raw"):
        stop("sale", world.services(), world.settings)
    with pytest.raises(DeclarationError, match="declared: sales"):
        start("sale", [windowed()], world.services(), world.settings)
    with pytest.raises(DeclarationError, match="never applied"):
        start("other", [windowed(name="other")], world.services(), world.settings)
    assert not remove("sale", world.services(), world.settings).changed


def test_remove_keeps_the_data_and_it_comes_back_where_it_was(world: World) -> None:
    first = world.flink.specs[0].job_id
    outcome = do_remove(world)
    assert outcome.lines[-1] == "kept: topics, rows in Druid, the source topic"
    assert live(world) == ["penstock.sales_raw"]
    assert set(world.druid.supervisors()) == {"sales_raw"}
    assert "sales" in world.druid.offsets, "rows that Druid has are not read again"
    assert world.kafka.topics(["penstock.sales.out"])
    assert not do_remove(world).changed
    assert not world.plan([raw()]).refused, "it need not be declared any more"
    world.apply([windowed(), raw()])
    assert world.flink.specs[-1].restore == f"memory:/savepoints/sales/savepoint-{first[:6]}-1"


def test_remove_with_everything_leaves_nothing(world: World) -> None:
    do_remove(world, delete_topics=True, drop_datasource=True)
    assert not world.kafka.topics(["penstock.sales.out", "penstock.sales.late", "penstock.sales.dlq"])
    assert world.kafka.topics(["shop.sold.v1"]), "others read it"
    assert world.druid.dropped == {"sales"}
    assert "sales" not in world.druid.offsets
    world.apply([windowed(), raw()])
    spec = world.flink.specs[-1]
    assert (spec.restore, spec.startup) == (None, "earliest-offset")
    do_remove(world, delete_topics=True, drop_datasource=True)
    world.apply([windowed(), raw()])
    ids = [spec.job_id for spec in world.flink.specs if spec.pipeline == "sales"]
    assert len(set(ids)) == len(ids) == 3, "a new start is another job"


def test_what_was_kept_can_be_taken_away_later(world: World) -> None:
    do_remove(world)
    assert do_remove(world, drop_datasource=True).changed
    assert world.druid.dropped == {"sales"}


def test_remove_of_a_pipeline_no_longer_declared(world: World) -> None:
    assert [step.flag for step in world.plan([raw()]).refused] == ["drop-datasource"]
    do_remove(world)
    assert not world.apply([raw()]).changes


def test_a_begun_remove_is_completed_before_anything_else(world: World) -> None:
    world.registry.write(world.registry.read()["sales"].but(status="removing"))
    assert "`penstock remove sales` completes it" in world.plan([windowed(), raw()]).refused[0].reason
    do_remove(world)
    assert not world.plan([windowed(), raw()]).refused


def test_a_begun_stop_is_told_by_plan_and_taken_back_by_start(world: World) -> None:
    world.registry.write(world.registry.read()["sales"].but(status="stopping"))
    made = world.plan([windowed(), raw()])
    assert not made.changes
    assert "a stop was begun" in next(step.reason for step in made.steps if step.subject == "penstock.sales")
    do_start(world)
    assert world.registry.read()["sales"].status == "running"
    assert len(world.flink.specs) == 2


@pytest.mark.parametrize("verb", [do_stop, do_start, do_remove])
def test_verbs_wait_for_nobody(world: World, verb: object) -> None:
    assert callable(verb)
    with environment_lock(world.settings, "apply"), pytest.raises(RefusedError, match="is being changed by"):
        verb(world)
