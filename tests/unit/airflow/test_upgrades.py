"""Upgrades by their operator: one of them, whatever dies, in place or with the past computed anew."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from penstock.airflow import base
from penstock.airflow.operators import FlinkUpgradeOperator, ReplayBeginOperator, ReplayStepOperator
from penstock.durations import millis
from penstock.flink.spec import version
from penstock.replay.run import run
from penstock.upgrade import Request, begin

from ..memory import Crash, Fault
from ..replay.test_launch import CHANGED
from ..replay.world import Life, lived, outcome
from ..test_in_place import NEW, OLD, applied
from .acting import TWO_HOURS, act, task


def going_over(life: Life, fault: Fault | None = None, replay_from: str = "1970-01-01", **more: Any) -> Any:
    life.pipeline = CHANGED
    return act(FlinkUpgradeOperator, life, fault, declared=[CHANGED], replay_from=replay_from, **more)


def test_an_upgrade_with_a_replay_is_the_command_lines(tmp_path: Path) -> None:
    life = lived(tmp_path)
    done = going_over(life, rate="None", reason="None")
    assert done.result["changed"] and done.uris == ["druid://test/sales"]
    record = life.registry.read()["sales"]
    assert (record.version, record.status) == (version(CHANGED), "running")
    assert done.task.flink_url.endswith(f"/{record.job_id}/overview")
    (replay,) = life.replays.read().values()
    assert replay.id.startswith("upgrade-sales-20260101T000000-")
    assert replay.asked.reason == "run manual__1 of penstock_replay"
    before, fault = outcome(life), Fault()
    assert going_over(life, fault).result["replay"] == replay.id
    assert fault.calls == [] and outcome(life) == before
    another = going_over(life, fault, replay_id="another-run")
    assert "nothing to do" in another.result["lines"][0] and outcome(life) == before


def test_an_upgrade_killed_at_any_call_and_cleared_ends_the_same(tmp_path: Path) -> None:
    whole, counter = lived(tmp_path / "whole"), Fault()
    going_over(whole, counter)
    for at in range(1, len(counter.calls) + 1, 3):
        life = lived(tmp_path / str(at))
        with pytest.raises(Crash):
            going_over(life, Fault(at, after=bool(at % 2)))
        going_over(life)
        assert outcome(life).replace(f"/{at}/", "/whole/") == outcome(whole), f"died at call {at}"
        assert len(life.replays.read()) == 1


def test_an_upgrade_in_place_goes_on_from_a_savepoint(tmp_path: Path) -> None:
    world = applied(tmp_path)
    first = act(FlinkUpgradeOperator, world, declared=[NEW], replay_from="None")
    assert "goes on where" in first.result["lines"][0]
    assert not act(FlinkUpgradeOperator, world, declared=[NEW], replay_from=None).result["changed"]
    world.flink.plans[version(OLD)] = world.flink.plans[version(NEW)].replace("COUNT", "SUM")
    with pytest.raises(AirflowFailException, match="nothing was stopped"):
        act(FlinkUpgradeOperator, world, declared=[OLD])


def test_an_upgrade_gives_up_its_place_but_where_a_wait_must_last(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.pipeline = CHANGED
    in_place = task(FlinkUpgradeOperator, life, declared=[CHANGED], deferrable=True)
    replayed = task(FlinkUpgradeOperator, life, declared=[CHANGED], deferrable=True, replay_from="1970-01-01")
    assert in_place.place == math.inf
    assert replayed.place == base.PLACE + millis(CHANGED.source.idle_after) / 1000
    begun = begin(CHANGED, Request(0), life.services(), life.settings, id="u1")
    assert begun is not None
    for step, place in (("verify", replayed.place), ("publish", math.inf)):
        run(CHANGED, begun.replay, life.services(), life.settings, timeout=0.2, through=step)
        assert in_place.place == replayed.place == place, step


def test_an_upgrade_is_not_finished_by_the_tasks_of_a_replay(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(Crash):
        going_over(life, Fault(5))
    (begun,) = life.replays.read().values()
    before = outcome(life)
    with pytest.raises(AirflowFailException, match=f"{begun.id} is an upgrade, not a replay"):
        act(ReplayStepOperator, life, step="receipt", replay_id=begun.id)
    with pytest.raises(AirflowFailException, match=f"{begun.id} is an upgrade, not a replay"):
        act(ReplayBeginOperator, life, replay_id=begun.id, **TWO_HOURS)
    assert outcome(life) == before


def test_what_is_allowed_is_by_its_name_in_a_forms_text(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(AirflowFailException, match="--allow everything: no such flag"):
        going_over(life, allow="everything, unhealed")
    assert going_over(life, allow="unhealed, empty-segments").result["changed"]
    (replay,) = life.replays.read().values()
    assert replay.asked.empty_segments
