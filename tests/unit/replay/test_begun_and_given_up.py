"""Replays that others stand beside: planned at once, waiting for a lock, given up, asked of a Druid that is away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock import Select
from penstock.errors import BusyError, RefusedError, UnavailableError
from penstock.replay import acts, publish
from penstock.replay.run import abandon, new_id, run

from ..memory import Crash, Fault
from .world import RAW, lived


def test_of_two_that_were_planned_at_once_one_is_begun(tmp_path: Path) -> None:
    life = lived(tmp_path)
    first, second = life.planned("r1"), life.planned("r2")
    life.replays.write(first)
    with pytest.raises(RefusedError, match="replay r1 of the same range was begun meanwhile"):
        run(life.pipeline, second, life.services(), life.settings, timeout=0.2, steady=0.0)
    assert "r2" not in life.replays.read()
    assert run(life.pipeline, first, life.services(), life.settings, timeout=0.2, steady=0.0).status == "done"
    assert run(life.pipeline, second, life.services(), life.settings, timeout=0.2, steady=0.0).status == "done"


def test_a_lock_that_another_holds_for_a_while_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life, held = lived(tmp_path, RAW), [True, True, True]
    go_on = acts.start

    def busy(*words: Any, **options: Any) -> Any:
        if held:
            held.pop()
            raise BusyError("test is being changed by another process")
        return go_on(*words, **options)

    monkeypatch.setattr(acts, "start", busy)
    assert life.replay(timeout=5).status == "done"
    assert held == []


def test_given_up_after_the_declaration_has_changed_what_ran_goes_on(tmp_path: Path) -> None:
    life, counter = lived(tmp_path / "whole", RAW), Fault()
    life.replay(fault=counter)
    life = lived(tmp_path / "it", RAW)
    ran = life.registry.read()["sales_raw"].version
    with pytest.raises(Crash):
        life.replay(fault=Fault(counter.calls.index("submit_batch") + 1))
    changed = replace(RAW, transform=Select(columns=["id", "at"]))
    abandon(changed, life.replays.read()["r1"], life.services(), life.settings, timeout=5)
    record = life.registry.read()["sales_raw"]
    assert (record.version, record.status) == (ran, "running")


def test_a_druid_that_is_away_is_not_one_that_serves_other_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = lived(tmp_path)
    totals = publish.totals

    def away(work: Any, end: int | None = None) -> Any:
        if "publish" in life.replays.read()["r1"].done:
            raise UnavailableError("Druid's broker does not answer")
        return totals(work, end)

    monkeypatch.setattr(publish, "totals", away)
    with pytest.raises(UnavailableError):
        life.replay()


def test_an_id_tells_nobody_elses_replay_however_long_the_name() -> None:
    first, second = new_id("p" * 63), new_id("p" * 63)
    assert first != second
    assert max(len(f"{prefix}-{first}") for prefix in ("repair", "upgrade")) <= 80
