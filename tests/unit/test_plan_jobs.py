"""The plan of jobs: started once, resumed where they were, refused where state would be lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import RefusedError
from penstock.lifecycle import start, stop
from penstock.plan import FLAGS
from penstock.replay.record import Asked, Cut, Replay, Settled
from penstock.services.flink import RestorePoint
from penstock.steps import (
    AdoptJob,
    Refused,
    StartJob,
)
from tests.unit.memory import World, raw, windowed

from .test_plan import kinds, only


@pytest.mark.parametrize("state", ["RUNNING", "RESTARTING", "CREATED", "INITIALIZING", "RECONCILING"])
def test_a_job_that_is_there_is_not_started_again(world: World, state: str) -> None:
    world.apply([windowed()])
    world.flink.set_state("penstock.sales", state)
    assert not world.plan([windowed()]).changes


@pytest.mark.parametrize("state", ["CANCELLING", "FAILING"])
def test_a_job_about_to_end_is_waited_for(world: World, state: str) -> None:
    world.apply([windowed()])
    world.flink.set_state("penstock.sales", state)
    assert "plan again" in only(world.plan([windowed()], *FLAGS), Refused).reason


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "FINISHED"])
def test_an_ended_job_resumes_from_its_last_state(world: World, state: str) -> None:
    world.apply([windowed()])
    old = world.flink.end("penstock.sales", state, point=RestorePoint("memory:/checkpoints/chk-7"))
    step = only(world.plan([windowed()]), StartJob)
    assert step.restore == "memory:/checkpoints/chk-7"
    world.apply([windowed()])
    assert world.flink.specs[-1].restore == "memory:/checkpoints/chk-7"
    assert world.flink.specs[-1].job_id != old


def test_a_job_that_flink_forgot_resumes_from_its_files(world: World) -> None:
    world.apply([windowed()])
    world.flink.forget(world.flink.end("penstock.sales", point=RestorePoint("memory:/chk-7")))
    assert only(world.plan([windowed()]), StartJob).restore == "memory:/chk-7"


def test_a_job_that_lost_its_state_is_refused(world: World) -> None:
    world.apply([windowed()])
    world.flink.forget(world.flink.end("penstock.sales", point=RestorePoint("memory:/chk-7")), files=False)
    assert only(world.plan([windowed()]), Refused).flag == "stateless-restart"
    step = only(world.plan([windowed()], "stateless-restart:sales"), StartJob)
    assert (step.restore, step.startup) == (None, "group-offsets")


def test_a_job_that_never_got_anywhere_just_starts_again(world: World) -> None:
    world.apply([windowed()])
    old = world.flink.end("penstock.sales", point=RestorePoint(never=True))
    assert only(world.plan([windowed()]), StartJob).startup == "earliest-offset"
    corrected = [windowed(measures={"n": "MAX(price)"})]
    assert only(world.plan(corrected), StartJob).startup == "earliest-offset", "a corrected mistake needs no flag"
    world.apply([windowed()])
    assert world.flink.specs[-1].job_id != old, "Flink would refuse an id that it knows"


def test_a_start_of_which_nobody_can_tell_what_became_is_refused(world: World) -> None:
    world.apply([windowed()])
    record = world.registry.read()["sales"]
    world.registry.write(record.but(status="starting"))
    world.flink.end("penstock.sales", point=RestorePoint())
    world.flink.forget(record.job_id)
    assert only(world.plan([windowed()]), StartJob).startup == "earliest-offset", (
        "its files can be seen: there are none"
    )
    world.flink.forgotten(record.job_id)
    assert only(world.plan([windowed()]), Refused).flag == "stateless-restart"


def test_another_version(world: World) -> None:
    world.apply([windowed()])
    other = [windowed(measures={"n": "MAX(price)"})]
    refused = only(world.plan(other), Refused)
    assert refused.flag == "stateless-restart"
    assert "brings it into place" in refused.reason
    made = world.plan(other, "stateless-restart")
    assert [kind for kind in kinds(made) if "Job" in kind] == ["StopJob", "StartJob"]
    assert (only(made, StartJob).restore, only(made, StartJob).startup) == (None, "group-offsets")
    assert [type(step).__name__ for step in world.plan([*other, raw()], "stateless-restart:other").refused] == [
        "Refused"
    ]


def test_other_settings_keep_the_state(world: World) -> None:
    world.apply([windowed()])
    world.use(parallelism=1)
    made = world.plan([windowed()])
    assert kinds(made) == ["StopJob", "StartJob"]
    world.apply([windowed()])
    assert world.flink.specs[-1].restore == f"memory:/savepoints/sales/savepoint-{world.flink.specs[0].job_id[:6]}-1"
    assert world.flink.specs[-1].config["parallelism.default"] == "1"
    assert not world.plan([windowed()]).changes


def test_a_job_of_the_name_from_elsewhere_is_refused(world: World) -> None:
    world.flink.foreign("penstock.sales", "f" * 32)
    assert "not started from this registry" in only(world.plan([windowed()], *FLAGS), Refused).reason


def test_two_jobs_of_the_name_are_refused(world: World) -> None:
    world.apply([windowed()])
    world.flink.foreign("penstock.sales", "f" * 32)
    assert "2 jobs of this name" in only(world.plan([windowed()], *FLAGS), Refused).reason


def test_a_lost_registry_is_not_a_first_start(world: World) -> None:
    world.apply([windowed()])
    world.kafka.delete_topic("penstock.registry.v1")
    assert kinds(world.plan([windowed()])) == ["CreateTopic", "AdoptJob"], "the first job is known by its identity"
    assert only(world.plan([windowed()]), AdoptJob).job_id == world.flink.specs[0].job_id
    world.flink.end("penstock.sales", point=RestorePoint(never=True))
    assert only(world.plan([windowed()]), Refused).flag == "stateless-restart"


HOUR = 3_600_000


def replayed(world: World, job: str, checkpoint: int | None, *, savepoint: str | None = None, id: str = "fix") -> None:
    """Let a replay of the first hour of 1970 be done, after that checkpoint (or with that savepoint) of the job."""
    cut, settled = Cut({}, {}, job_id=job, savepoint=savepoint), Settled(checkpoint, savepoint or "", {})
    asked = Asked(0, HOUR, 0, HOUR)
    world.replays.write(Replay(id, "sales", "v", asked, status="done", cut=cut, settled=settled))


def ended_at(world: World, number: int) -> str:
    """Apply, and let the job end with that checkpoint; return its id."""
    world.apply([windowed()])
    job = world.flink.specs[-1].job_id
    return world.flink.end("penstock.sales", point=RestorePoint(f"memory:/checkpoints/{job}/chk-{number}"))


def test_a_state_older_than_a_replay_is_refused(world: World) -> None:
    replayed(world, ended_at(world, 6), 7)
    refused = only(world.plan([windowed()]), Refused)
    assert refused.flag == "older-state"
    words = "it ended: chk-6 is older than replay fix (1970-01-01T00:00Z to 1970-01-01T01:00Z)"
    assert refused.reason.startswith(words)
    assert "put the newer state back" in refused.reason
    with pytest.raises(RefusedError, match="chk-6 is older than replay fix"):
        world.apply([windowed()])
    assert len(world.flink.specs) == 1


def test_it_is_allowed_by_name_and_then_says_what_to_replay_again(world: World) -> None:
    replayed(world, ended_at(world, 6), 7)
    made = world.apply([windowed()], "older-state:sales")
    reason = only(made, StartJob).reason
    assert "`penstock repair sales` must replay again what replay fix (1970-01-01T00:00Z to" in reason
    assert str(world.flink.specs[-1].restore).endswith("/chk-6")


def test_put_back_the_newer_state_is_gone_on_from(world: World) -> None:
    job = ended_at(world, 6)
    replayed(world, job, 7)
    world.flink._points[job] = RestorePoint(f"memory:/checkpoints/{job}/chk-7")
    assert str(only(world.plan([windowed()]), StartJob).restore).endswith("/chk-7")


def test_numbers_of_another_job_say_nothing(world: World) -> None:
    job = ended_at(world, 6)
    replayed(world, "f" * 32, 7)
    assert str(only(world.plan([windowed()]), StartJob).restore).endswith(f"{job}/chk-6")


def test_a_receipt_that_published_nothing_or_of_another_generation_says_nothing(world: World) -> None:
    job = ended_at(world, 6)
    replayed(world, job, 7)
    found = world.replays.read()["fix"]
    for other in (found.but(status="abandoned"), found.but(status="dry"), found.but(generation=1)):
        world.replays.write(other)
        assert only(world.plan([windowed()]), StartJob)
    world.replays.write(found)
    assert only(world.plan([windowed()]), Refused)


def test_what_the_receipts_job_began_from_is_older(world: World) -> None:
    before = ended_at(world, 6)
    world.apply([windowed()])
    job = world.flink.end("penstock.sales", point=RestorePoint(f"memory:/checkpoints/{before}/chk-6"))
    assert only(world.plan([windowed()]), StartJob)
    replayed(world, job, 9)
    assert only(world.plan([windowed()]), Refused).flag == "older-state"


def test_a_stopped_job_left_no_state_newer_than_its_savepoint(world: World) -> None:
    job = ended_at(world, 9)
    record = world.registry.read()["sales"]
    savepoint = f"memory:/savepoints/sales/savepoint-{job[:6]}-1"
    replayed(world, job, None, savepoint=savepoint)
    assert only(world.plan([windowed()]), Refused).flag == "older-state"
    world.registry.write(record.but(status="stopped", savepoint=savepoint))
    assert world.plan([windowed()]).refused == []
    assert start("sales", [windowed()], world.services(), world.settings).changed
    assert world.flink.specs[-1].restore == savepoint


@pytest.mark.parametrize("number", [6, 7])
def test_start_refuses_a_savepoint_by_the_number_in_its_header(world: World, tmp_path: Path, number: int) -> None:
    world.use(state=tmp_path.as_uri())
    world.apply([windowed()])
    job = world.flink.specs[-1].job_id
    stop("sales", world.services(), world.settings)
    folder = tmp_path / "savepoints" / "sales" / f"savepoint-{job[:6]}-1"
    folder.mkdir(parents=True)
    (folder / "_metadata").write_bytes(bytes.fromhex("4960672d 00000006") + number.to_bytes(8, "big") + b"more")
    replayed(world, job, 7)
    if number == 7:
        assert start("sales", [windowed()], world.services(), world.settings).changed
        return
    with pytest.raises(RefusedError, match="is older than replay fix") as caught:
        start("sales", [windowed()], world.services(), world.settings)
    assert "--allow older-state" in str(caught.value.hint)
    allowed = start("sales", [windowed()], world.services(), world.settings, allow={"older-state"})
    assert "must replay again what replay fix" in allowed.lines[1]
