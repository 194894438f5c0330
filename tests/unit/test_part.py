"""A part of what is declared is applied: only that, and what is refused elsewhere does not hold it back."""

from __future__ import annotations

import pytest

from penstock.errors import BusyError, DeclarationError
from penstock.lifecycle import stop
from penstock.lock import environment_lock
from penstock.part import apply_part, diff_part, resume, suspend
from tests.unit.memory import Fault, World, raw, windowed

DECLARED = [windowed(), raw()]


def part(world: World, name: str, kind: str, fault: Fault | None = None):  # type: ignore[no-untyped-def]
    return apply_part(name, kind, DECLARED, world.services(fault), world.settings, timeout=0.2)  # type: ignore[arg-type]


def test_part_after_part_is_the_whole(world: World) -> None:
    whole = World(world.settings.root / "whole")
    whole.apply(DECLARED)
    for name in ("sales", "sales_raw"):
        assert [part(world, name, kind).changed for kind in ("topic", "supervisor", "job")] == [True] * 3
        assert [part(world, name, kind).changed for kind in ("topic", "supervisor", "job")] == [False] * 3
    assert world.state() == whole.state()


def test_only_that_part_is_made(world: World) -> None:
    done = part(world, "sales", "topic")
    topics = {"penstock.registry.v1", "shop.sold.v1", *(f"penstock.sales.{role}" for role in ("out", "late", "dlq"))}
    assert set(world.kafka._states) == topics
    assert done.lines[-1] == "test: 5 created"
    part(world, "sales", "supervisor")
    assert list(world.druid.supervisors()) == ["sales"]
    assert world.flink.jobs() == []


def test_the_second_time_it_calls_nothing_and_says_so(world: World) -> None:
    world.apply(DECLARED)
    fault = Fault()
    assert part(world, "sales", "topic", fault).lines == ("test: nothing to do: 5 resources as declared",)
    assert fault.calls == []


def test_a_pipeline_that_is_declared_no_more_holds_nobody_back(world: World) -> None:
    world.apply([*DECLARED, raw(name="old")])
    assert not part(world, "sales", "job").changed


def test_a_stopped_job_goes_on(world: World) -> None:
    world.apply(DECLARED)
    stop("sales", world.services(), world.settings, timeout=0.2)
    assert part(world, "sales", "job").changed
    assert world.registry.read()["sales"].status == "running"


def test_a_diff_changes_nothing(world: World) -> None:
    fault = Fault()
    made = diff_part("sales", "supervisor", DECLARED, world.services(fault), world.settings)
    assert [step.subject for step in made.changes] == ["sales"]
    assert fault.calls == []


def test_a_supervisor_is_suspended_and_goes_on(world: World) -> None:
    world.apply(DECLARED)
    services = world.services()
    assert suspend("sales", services, world.settings).changed
    assert not suspend("sales", services, world.settings).changed
    assert resume("sales", services, world.settings).changed
    assert not resume("sales", services, world.settings).changed
    with pytest.raises(DeclarationError, match="no supervisor 'sails'"):
        suspend("sails", services, world.settings)


def test_another_change_under_way_is_worth_another_try(world: World) -> None:
    with (
        environment_lock(world.settings, "apply"),
        pytest.raises(BusyError, match="is being changed by `penstock apply`"),
    ):
        part(world, "sales", "topic")
