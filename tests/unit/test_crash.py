"""Whatever dies between any two calls: the same command again ends in the same state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import PenstockError, RefusedError, UnavailableError
from penstock.lifecycle import remove, start, stop
from penstock.services.flink import RestorePoint
from tests.unit.memory import Crash, Fault, World, raw, topic, unavailable, windowed

PIPELINES = [windowed(), raw()]
CHECKPOINT = RestorePoint("memory:/checkpoints/x/chk-7")


@dataclass(frozen=True)
class Scenario:
    """`before` prepares a world; `act` is the command that dies and is given again."""

    act: Callable[[World, Fault | None], Any]
    before: Callable[[World], Any] = lambda world: world.apply(PIPELINES)


def _failed(point: RestorePoint) -> Callable[[World], None]:
    def before(world: World) -> None:
        world.apply(PIPELINES)
        world.flink.end("penstock.sales", point=point)

    return before


def _other_settings(world: World) -> None:
    world.apply(PIPELINES)
    world.use(parallelism=1)


def _stopped(world: World) -> None:
    world.apply(PIPELINES)
    stop("sales", world.services(), world.settings)


def _removed(world: World) -> None:
    world.apply(PIPELINES)
    remove("sales", world.services(), world.settings)


def _apply(pipelines: list[Any], *allow: str) -> Callable[[World, Fault | None], Any]:
    return lambda world, fault: world.apply(pipelines, *allow, fault=fault)


def _remove(**flags: bool) -> Callable[[World, Fault | None], Any]:
    return lambda world, fault: remove("sales", world.services(fault), world.settings, **flags)


fewer = topic(partitions=2)
SCENARIOS = {
    "first apply": Scenario(_apply(PIPELINES), lambda world: None),
    "other version": Scenario(_apply([windowed(measures={"m": "MAX(price)"}), raw()], "stateless-restart")),
    "other settings": Scenario(_apply(PIPELINES), _other_settings),
    "fewer partitions": Scenario(_apply([windowed(fewer), raw(fewer)], "fewer-partitions")),
    "more partitions": Scenario(_apply([windowed(topic(partitions=8)), raw(topic(partitions=8))], "repartition")),
    "other key": Scenario(
        _apply([windowed(topic(key="at")), raw(topic(key="at"))], "changed-key", "stateless-restart")
    ),
    "dropped": Scenario(_apply([raw()], "drop-datasource")),
    "failed with a checkpoint": Scenario(_apply(PIPELINES), _failed(CHECKPOINT)),
    "failed without one": Scenario(_apply(PIPELINES), _failed(RestorePoint(never=True))),
    "failed, state lost": Scenario(_apply(PIPELINES, "stateless-restart"), _failed(RestorePoint())),
    "stop": Scenario(lambda world, fault: stop("sales", world.services(fault), world.settings)),
    "cancel": Scenario(lambda world, fault: stop("sales", world.services(fault), world.settings, cancel=True)),
    "start": Scenario(
        lambda world, fault: start("sales", PIPELINES, world.services(fault), world.settings, timeout=0.2), _stopped
    ),
    "remove": Scenario(_remove()),
    "remove a stopped one": Scenario(_remove(), _stopped),
    "remove with topics": Scenario(_remove(delete_topics=True)),
    "remove with rows": Scenario(_remove(drop_datasource=True)),
    "remove all": Scenario(_remove(delete_topics=True, drop_datasource=True)),
    "come back": Scenario(_apply(PIPELINES), _removed),
}


def _world(folder: Path, scenario: Scenario) -> World:
    world = World(folder)
    scenario.before(world)
    return world


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_second_run_completes_what_a_dead_one_began(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    world, counter = _world(tmp_path, scenario), Fault()
    scenario.act(world, counter)
    wanted = world.state()
    assert len(counter.calls) >= 2, "a scenario with nothing to interrupt proves nothing"
    for at in range(1, len(counter.calls) + 1):
        for after in (False, True):
            world = _world(tmp_path, scenario)
            with pytest.raises(Crash):
                scenario.act(world, Fault(at, after))
            scenario.act(world, None)
            call = f"{'after' if after else 'before'} call {at} ({counter.calls[at - 1]})"
            assert world.state() == wanted, f"{name}: died {call}"
            live = [job.name for job in world.flink.jobs() if job.live]
            assert len(live) == len(set(live)), f"{name}: died {call}: a job runs twice"


@pytest.mark.parametrize("name", [name for name, it in SCENARIOS.items() if "apply" in it.act.__qualname__])
def test_a_service_that_goes_away_is_reported_and_a_second_apply_completes_it(name: str, tmp_path: Path) -> None:
    scenario = SCENARIOS[name]
    world, counter = _world(tmp_path, scenario), Fault()
    scenario.act(world, counter)
    wanted = world.state()
    for at in range(1, len(counter.calls) + 1):
        world = _world(tmp_path, scenario)
        with pytest.raises(UnavailableError) as caught:
            scenario.act(world, Fault(at, error=unavailable))
        assert "it went away" in caught.value.message
        assert "\ndone: " in caught.value.message
        assert "\nnot " in caught.value.message
        assert "`penstock apply` again" in (caught.value.hint or "")
        assert caught.value.exit_code == 5
        scenario.act(world, None)
        assert world.state() == wanted


@pytest.mark.parametrize("at", [1, 2])
def test_apply_does_not_undo_a_stop_that_was_begun(at: int, tmp_path: Path) -> None:
    world = _world(tmp_path, SCENARIOS["stop"])
    with pytest.raises(Crash):
        stop("sales", world.services(Fault(at, after=True)), world.settings)
    before = world.flink.jobs()
    assert world.apply(PIPELINES).changes == []
    assert world.flink.jobs() == before


def test_apply_does_not_undo_a_remove_that_was_begun(tmp_path: Path) -> None:
    scenario, counter = SCENARIOS["remove all"], Fault()
    scenario.act(_world(tmp_path, scenario), counter)
    for at in range(1, len(counter.calls)):
        world = _world(tmp_path, scenario)
        with pytest.raises(Crash):
            scenario.act(world, Fault(at, after=True))
        with pytest.raises(RefusedError, match="`penstock remove sales` completes it"):
            world.apply(PIPELINES)


def test_the_error_of_an_interrupted_apply_keeps_its_kind(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(PenstockError) as caught:
        world.apply(PIPELINES, fault=Fault(3, error=lambda: PenstockError("no such permission", hint="ask for it")))
    assert caught.value.exit_code == 1
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("ask for it")
    assert "done: create topic penstock.registry.v1, create topic shop.sold.v1\n" in caught.value.message
    assert "not done: create topic penstock.sales.out, " in caught.value.message
