"""A batch task is run once, whatever dies and whoever asks again."""

from __future__ import annotations

import pytest

from penstock.errors import PenstockError
from penstock.tasks import newest, run_task
from penstock.wait import Yielded, yielding
from tests.unit.memory import Crash, Fault, World

SPEC = {"type": "compact", "dataSource": "sales", "ioConfig": {"inputSpec": {"interval": "1970-01-01/1970-01-02"}}}


@pytest.fixture(autouse=True)
def segments(world: World) -> None:
    world.druid.fragments["sales"] = {}


def test_once_and_then_it_says_so(world: World) -> None:
    first = run_task(world.services().druid, "t", SPEC, timeout=0.2)
    assert (first.task, first.changed, first.datasource) == ("t_1", True, "sales")
    fault = Fault()
    again = run_task(world.services(fault).druid, "t", SPEC, timeout=0.2)
    assert (again.task, again.changed) == ("t_1", False)
    assert fault.calls == []


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_the_submission_it_is_one_task(world: World, after: bool) -> None:
    with pytest.raises(Crash):
        run_task(world.services(Fault(1, after)).druid, "t", SPEC, timeout=0.2)
    run_task(world.services().druid, "t", SPEC, timeout=0.2)
    assert world.druid.tasks == {"t_1": "SUCCESS"}


def test_a_running_one_is_awaited_and_a_failed_one_done_anew(world: World) -> None:
    world.druid.tasks["t_1"] = "RUNNING"
    with pytest.raises(Yielded, match="t_1: RUNNING"), yielding(0.0):
        run_task(world.services().druid, "t", SPEC)
    world.druid.tasks["t_1"] = "FAILED"
    assert run_task(world.services().druid, "t", SPEC, timeout=0.2).task == "t_2"
    assert newest(world.services().druid, "t") == "t_2"


def test_the_reason_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.druid, "submit_task", lambda spec: world.druid.tasks.update({spec["id"]: "FAILED"}))
    with pytest.raises(PenstockError, match="t_1 failed: the reason in one line"):
        run_task(world.services().druid, "t", SPEC, timeout=0.2)
