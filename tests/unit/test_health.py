"""Health: what is unhealthy, since when, why; and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import DeclarationError
from penstock.health import STALE, Finding, check, known, look, remember, services_down
from penstock.replay.run import run
from penstock.services.flink import RestorePoint
from penstock.upgrade import Request, begin
from tests.unit.memory import Fault, World, raw, windowed
from tests.unit.replay.test_launch import CHANGED, upgrade
from tests.unit.replay.world import lived

DECLARED = [windowed(), raw()]


def applied(world: World) -> World:
    world.apply(DECLARED)
    return world


def words(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(item.pipeline, item.subject, item.state) for item in found]


def test_all_is_well_and_nothing_is_changed(world: World) -> None:
    applied(world)
    fault = Fault()
    assert look(DECLARED, world.services(fault), now=1.0) == []
    assert fault.calls == []


def test_what_was_never_applied_is_not_unhealthy(world: World) -> None:
    assert look(DECLARED, world.services()) == []


def test_a_service_that_is_down_is_named_and_hides_what_depends_on_it(world: World) -> None:
    applied(world)
    world.flink.down = world.druid.down = True
    found = look(DECLARED, world.services())
    assert words(found) == [
        ("", "Flink", "unavailable"),
        ("", "Druid", "unavailable"),
        ("", "Druid's broker", "unavailable"),
    ]
    assert "does not answer" in found[0].cause
    assert len(services_down(world.services())) == 3


def test_a_service_that_refuses_us_is_told_from_one_that_is_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise DeclarationError("Flink refused GET /overview (401): no such user")

    applied(world)
    monkeypatch.setattr(world.flink, "overview", refuse)
    assert words(look(DECLARED, world.services())) == [("", "Flink", "refusing")]


@pytest.mark.parametrize(("state", "reason"), [("RESTARTING", "no more memory"), ("FAILED", None)])
def test_a_job_that_does_not_run_is_told_with_its_cause(world: World, state: str, reason: str | None) -> None:
    applied(world)
    world.flink.set_state("penstock.sales", state, reason=reason)
    (found,) = look(DECLARED, world.services(), now=1.0)
    assert (found.pipeline, found.subject) == ("sales", "job")
    assert (found.state, found.cause) == (
        ("not running", "restarting, 0 of 4 tasks run: no more memory")
        if reason
        else ("failed", "0 of 4 tasks run: are slots free?")
    )


def test_a_job_on_its_way_back_is_one_illness_and_its_checkpoints_count_from_there(world: World) -> None:
    applied(world)
    seen = []
    for state, now in (("RESTARTING", 100.0), ("CREATED", 160.0)):
        world.flink.set_state("penstock.sales", state)
        seen += remember(look(DECLARED, world.services(), now=1.0), world.settings, now=now)
    assert [(it.state, it.since, it.new) for it in seen] == [
        ("not running", 100.0, True),
        ("not running", 100.0, False),
    ]
    world.flink.set_state("penstock.sales", "RUNNING")
    (job,) = [job.id for job in world.flink.jobs() if job.name == "penstock.sales"]
    world.flink.checkpoint_times[job] = 1_000_000
    world.flink.restores[job] = (1, 1_001_000)  # it waited for slots
    world.flink.deployments[job] = 1_050_000
    assert look(DECLARED[:1], world.services(), now=1050 + STALE) == []
    assert words(look(DECLARED[:1], world.services(), now=1051 + STALE)) == [("sales", "job", "without checkpoints")]


def test_a_job_that_flink_has_forgotten(world: World) -> None:
    applied(world)
    world.flink.forget(world.flink.end("penstock.sales", point=RestorePoint("memory:/1")))
    assert words(look(DECLARED, world.services(), now=1.0)) == [("sales", "job", "gone")]


def test_a_job_that_takes_no_checkpoint(world: World) -> None:
    applied(world)
    for job in world.flink.jobs():
        world.flink.checkpoint_times[job.id] = 1_000_000
    assert look(DECLARED, world.services(), now=1000 + STALE) == []
    found = look(DECLARED, world.services(), now=1000 + STALE + 1)
    assert words(found) == [("sales", "job", "without checkpoints"), ("sales_raw", "job", "without checkpoints")]


def test_supervisors_that_do_not_run(world: World) -> None:
    applied(world)
    world.druid.set_state("sales", "UNHEALTHY_TASKS", healthy=False)
    world.druid.suspend("sales_raw")
    sick, suspended = look(DECLARED, world.services(), now=1.0)
    assert (sick.state, sick.cause) == ("unhealthy_tasks", "the reason in one line")
    assert (suspended.state, suspended.cause) == ("suspended", "`penstock apply` resumes it")
    world.druid.terminate("sales")
    assert words(look(DECLARED, world.services(), now=1.0))[0] == ("sales", "supervisor", "absent")


def test_of_a_second_generation_its_own_job_and_topic_are_named(tmp_path: Path) -> None:
    life = lived(tmp_path)
    upgrade(life, CHANGED)
    assert look([CHANGED], life.services(), now=1.0) == []
    life.druid.set_state("sales", "CREATING_TASKS", healthy=True)
    life.flink.forget(life.flink.end("penstock.sales.1", point=RestorePoint("memory:/1")))
    job, supervisor = look([CHANGED], life.services(), now=1.0)
    assert (job.state, supervisor.state) == ("gone", "creating_tasks")
    assert "Flink does not know penstock.sales.1 " in job.cause
    assert "penstock.sales.1.out" in supervisor.cause


@pytest.mark.parametrize("at", ["catch up", "hand over"])
def test_what_an_upgrade_has_stopped_is_for_the_upgrade_to_finish(at: str, tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.pipeline = CHANGED
    begun = begin(CHANGED, Request(0), life.services(), life.settings, id="u1")
    assert begun is not None
    run(CHANGED, begun.replay, life.services(), life.settings, timeout=0.2, steady=0.0, through=at)
    found = look([CHANGED], life.services(), now=1.0)
    if at == "catch up":
        assert found == [], "the old job serves on"
        return
    assert words(found) == [("sales", "job", "stopped by an upgrade"), ("sales", "supervisor", "suspended")]
    assert [it.cause for it in found] == [
        "upgrade u1 is not finished: `penstock upgrade sales`",
        "`penstock upgrade sales` goes on with u1",
    ]


def test_since_when_is_remembered_and_news_is_news_once(world: World) -> None:
    applied(world)
    world.flink.set_state("penstock.sales", "RESTARTING")
    first = remember(look(DECLARED, world.services(), now=1.0), world.settings, now=100.0)
    again = remember(look(DECLARED, world.services(), now=1.0), world.settings, now=160.0)
    assert [(it.since, it.new) for it in (*first, *again)] == [(100.0, True), (100.0, False)]
    assert "since 1970-01-01T00:01:40Z" in str(again[0])
    world.flink.set_state("penstock.sales", "RUNNING")
    assert remember(look(DECLARED, world.services(), now=1.0), world.settings, now=200.0) == []
    world.flink.set_state("penstock.sales", "RESTARTING")
    assert check(DECLARED, world.services(), world.settings)[0].new, "well meanwhile: it is news again"


def test_what_a_service_hides_while_it_is_down_is_neither_over_nor_news(world: World) -> None:
    applied(world)
    world.druid.suspend("sales")

    def at(now: float) -> list[tuple[str, float, bool]]:
        found = remember(look(DECLARED, world.services(), now=1.0), world.settings, now=now)
        return [(it.state, it.since, it.new) for it in found]

    assert at(100.0) == [("suspended", 100.0, True)]
    world.druid.down = True
    assert at(160.0) == [("unavailable", 160.0, True)] * 2, "Druid, and its broker"
    world.druid.down = False
    assert at(220.0) == [("suspended", 100.0, False)]
    world.flink.down = True
    world.druid.resume("sales")
    assert at(280.0) == [("unavailable", 280.0, True)]
    assert [key for key in known(world.settings) if "supervisor" in key] == [], "that could be looked at"


def test_a_job_that_a_replay_has_stopped_is_told_apart_from_one_stopped_by_hand(world: World) -> None:
    from penstock.lifecycle import stop
    from penstock.replay.record import Asked, Replay

    applied(world)
    stop("sales_raw", world.services(), world.settings, timeout=0.2)
    assert look(DECLARED, world.services(), now=1.0) == []
    world.replays.write(Replay("r1", "sales_raw", "v", Asked(0, 1, 0, 1), done=("stop",)))
    (found,) = look(DECLARED, world.services(), now=1.0)
    assert found.state == "stopped by a replay"
    assert "`penstock replay --id r1`" in found.cause
