"""Apply: nothing where nothing is to be done or something is refused, one at a time, and what it waits for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.errors import PenstockError, RefusedError, UnavailableError, WaitTimeoutError
from penstock.lock import environment_lock, lock_file
from penstock.services.flink import Job, RestorePoint
from penstock.stack.parts import part_named
from penstock.steps import plan_from_json, plan_to_json
from tests.unit.memory import Fault, World, raw, topic, windowed


def test_the_first_apply_makes_it_and_the_second_does_nothing(world: World) -> None:
    first = world.apply([windowed(), raw()])
    assert len(first.changes) == 12
    assert {job.name for job in world.flink.jobs() if job.running} == {"penstock.sales", "penstock.sales_raw"}
    assert all(item.running for item in world.druid.supervisors().values())
    before, fault = world.state(), Fault()
    second = world.apply([windowed(), raw()], fault=fault)
    assert second.changes == []
    assert fault.calls == [], "a second apply calls nothing that changes"
    assert world.state() == before


def test_jobs_are_submitted_together(world: World) -> None:
    fault = Fault()
    world.apply([windowed(), raw()], fault=fault)
    assert fault.calls.count("submit") == 1


def test_the_registry_says_what_was_applied(world: World) -> None:
    world.apply([windowed()])
    record = world.registry.read()["sales"]
    assert (record.status, record.source, record.key, record.partitions) == ("running", "shop.sold.v1", "id", 4)
    assert record.job_id == world.flink.specs[0].job_id
    assert record.applied_by
    assert record.applied_at.endswith("+00:00")


def test_an_environment_reads_only_its_own_records(world: World) -> None:
    world.apply([windowed()])
    env = world.settings.env.model_copy(update={"name": "other"})
    world.registry._env = env
    assert world.registry.read() == {}


def test_a_refused_step_stops_everything(world: World) -> None:
    world.apply([windowed(), raw()])
    before, fault = world.state(), Fault()
    with pytest.raises(RefusedError) as caught:
        world.apply([windowed(topic(partitions=2, retention="60 d"))], fault=fault)
    assert caught.value.exit_code == 3
    assert "nothing was done" in caught.value.message
    assert "datasource sales_raw: " in caught.value.message
    assert "[--allow fewer-partitions]" in caught.value.message
    assert fault.calls == []
    assert world.state() == before


def test_a_plan_that_was_shown_is_carried_out(world: World) -> None:
    world.apply([windowed()])
    declared = [windowed(measures={"n": "MAX(price)"})]
    shown = plan_from_json(json.loads(json.dumps(plan_to_json(world.plan(declared, "stateless-restart")))))
    assert world.apply(declared, expected=shown) == shown, "with the flags it was made with"


@pytest.mark.parametrize("meddle", ["declaration", "suspend", "stop"])
def test_a_stale_plan_is_refused(world: World, meddle: str) -> None:
    from penstock.lifecycle import stop

    world.apply([windowed(), raw()])
    declared = [windowed(segment="day"), raw()]
    shown = world.plan(declared)
    if meddle == "declaration":
        declared = [windowed(segment="month"), raw()]
    elif meddle == "suspend":
        world.druid.suspend("sales_raw")
    else:
        stop("sales_raw", world.services(), world.settings)
    fault = Fault()
    with pytest.raises(RefusedError, match="stale"):
        world.apply(declared, expected=shown, fault=fault)
    assert fault.calls == []


def test_a_plan_of_another_environment_is_refused(world: World) -> None:
    shown = replace(world.plan([windowed()]), env="production")
    with pytest.raises(RefusedError, match="for production, not for test"):
        world.apply([windowed()], expected=shown)


def test_two_at_once(world: World) -> None:
    """The lock is held by another process, and free again as soon as that is dead."""
    file = lock_file(world.settings)
    program = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from penstock.lock import environment_lock; from tests.unit.memory import World;"
        "lock = environment_lock(World(Path(sys.argv[1])).settings, 'apply'); lock.__enter__();"
        "print('held', flush=True); time.sleep(60)"
    )
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", program, str(world.settings.root), root], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        fault = Fault()
        with pytest.raises(RefusedError) as caught:
            world.apply([windowed()], fault=fault)
        assert fault.calls == []
        assert f"`penstock apply`, process {other.pid}, since 20" in caught.value.message
        assert caught.value.exit_code == 3
        other.kill()
    assert file.exists()
    assert world.apply([windowed()]).changes


def test_the_lock_is_free_after_a_failure(world: World) -> None:
    world.kafka.down = True
    with pytest.raises(UnavailableError):
        world.apply([windowed()])
    with environment_lock(world.settings, "apply"):
        assert json.loads(lock_file(world.settings).with_suffix(".json").read_text())["pid"] == os.getpid()


def test_a_lock_that_cannot_be_taken_is_one_message(world: World) -> None:
    (world.settings.home).write_text("a file where a directory should be")
    with pytest.raises(PenstockError, match="the lock can't be taken"):
        world.apply([windowed()])


@pytest.mark.parametrize("service", ["kafka", "flink", "druid"])
def test_a_service_that_is_down_is_named_and_nothing_is_done(world: World, service: str) -> None:
    getattr(world, service).down = True
    fault = Fault()
    with pytest.raises(UnavailableError, match=service.capitalize()):
        world.apply([windowed()], fault=fault)
    assert fault.calls == []
    getattr(world, service).down = False
    assert len(world.apply([windowed()]).changes) == 7


def test_a_job_that_fails_gives_its_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.flink, "_start", lambda job, name: _failed(world, job, name))
    with pytest.raises(PenstockError) as caught:
        world.apply([windowed()])
    assert "is FAILED: Unknown column 'x'" in caught.value.message
    assert "\ndone: create topic" in caught.value.message
    assert "not seen healthy: job penstock.sales" in caught.value.message
    monkeypatch.undo()
    world.apply([windowed()])
    assert world.registry.read()["sales"].status == "running"
    assert len({spec.job_id for spec in world.flink.specs}) == 2


def _failed(world: World, job: str, name: str) -> None:
    world.flink._jobs[job] = Job(job, name, "FAILED", started=1, total_tasks=4)
    world.flink._failures[job] = "Unknown column 'x'"
    world.flink._points[job] = RestorePoint(never=True)


def test_a_job_that_keeps_restarting_is_waited_for_with_its_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = world.flink._start

    def restarting(job: str, name: str) -> None:
        start(job, name)
        world.flink.set_state(name, "RESTARTING", reason="no such topic")

    monkeypatch.setattr(world.flink, "_start", restarting)
    with pytest.raises(UnavailableError, match="RESTARTING, 0 of 4 tasks run; last failure: no such topic"):
        world.apply([windowed()])
    world.flink.set_state("penstock.sales", "RUNNING")
    assert [type(step).__name__ for step in world.apply([windowed()]).changes] == ["AdoptJob"]


def test_a_supervisor_that_is_not_healthy_is_waited_for_with_its_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = world.druid.post_supervisor

    def unhealthy(spec: dict[str, object]) -> None:
        post(spec)
        world.druid.set_state("sales", "UNABLE_TO_CONNECT_TO_STREAM", healthy=False)

    monkeypatch.setattr(world.druid, "post_supervisor", unhealthy)
    with pytest.raises(UnavailableError, match="UNABLE_TO_CONNECT_TO_STREAM: the reason in one line") as caught:
        world.apply([windowed()])
    named = re.findall(r"`penstock logs ([\w-]+)`", str(caught.value))
    assert [part_named(world.settings, name).name for name in named] == ["druid-coordinator", "druid-indexer"]
    assert not isinstance(caught.value, WaitTimeoutError), "it tells what was done besides"
    world.druid.set_state("sales", "RUNNING")
    world.apply([windowed()])
    assert world.registry.read()["sales"].status == "running"
