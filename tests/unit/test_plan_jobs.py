"""The plan of jobs: started once, resumed where they were, refused where state would be lost."""

from __future__ import annotations

import pytest

from penstock.plan import FLAGS
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
