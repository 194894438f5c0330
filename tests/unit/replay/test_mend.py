"""Repairs in memory: what they heal, what they leave, and that they may die at any call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import PenstockError
from penstock.pipeline import Pipeline
from penstock.reconcile import Ledger
from penstock.repair_policy import Standing
from penstock.replay.mend import HEALED, OPEN, REFUSED, UNEQUAL, Report, is_due, repair, replay_id, standing
from penstock.replay.repair import Range

from ..memory import Crash, Fault
from .test_repair import ledger, segment
from .world import HOUR, RAW, TUMBLE, Life, lived


def mend(life: Life, fault: Fault | None = None, **more: Any) -> Report:
    return repair(life.pipeline, life.services(fault), life.settings, **({"timeout": 0.2, "steady": 0.0} | more))


def lose(life: Life) -> Any:
    """Lose what Druid has of the first segment; return what takes the ledger: whether there is something."""
    life.druid.lose(life.pipeline.name, 0, HOUR)

    def prove(_: Range) -> Ledger:
        return ledger(segment(0, druid=5 if life.rows(0, HOUR) else 0))

    return prove


def test_late_events_are_healed_once_and_for_all(tmp_path: Path) -> None:
    life = lived(tmp_path)
    done = mend(life)
    assert [(it.start, it.end, it.why, it.state) for it in done.outcomes] == [(0, HOUR, "2 late", HEALED)]
    assert (done.left.late, done.left.healed, done.left.spans) == (2, 2, ())
    (receipt,) = done.receipts
    assert (receipt.status, receipt.asked.reason, receipt.asked.repair) == ("done", "repair: 2 late", True)
    assert life.rows(0, 60_000) == [(0, 1), (0, 2)]
    counter = Fault()
    assert mend(life, counter).outcomes == ()
    assert counter.calls == []
    life.arrive(4_000, id="c")
    life.live()
    assert [it.why for it in mend(life).outcomes] == ["1 late"], "it came after the cut"


@pytest.mark.parametrize("pipeline", [TUMBLE, RAW], ids=["windowed", "pass-through"])
def test_what_the_ledger_names_is_replayed(pipeline: Pipeline, tmp_path: Path) -> None:
    life = lived(tmp_path, pipeline)
    whole = sum(events for _, events in life.rows(0, HOUR))
    prove = lose(life)
    assert life.rows(0, HOUR) == []
    done = mend(life, prove=prove)
    late = 0 if pipeline is RAW else 2
    assert [it.why for it in done.outcomes] == ["2 late, Druid lacks 5" if late else "Druid lacks 5"]
    assert sum(events for _, events in life.rows(0, HOUR)) == whole + late


def test_what_is_still_not_equal_is_told(tmp_path: Path) -> None:
    done = mend(lived(tmp_path), prove=lambda _: ledger(segment(0, counted=4, druid=4)))
    (it,) = done.outcomes
    assert it.state == UNEQUAL
    assert it.detail == "replayed, and yet: shortfall of 1; `penstock verify` names each"


def test_open_windows_wait_and_it_is_said_how_long(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.arrive(HOUR + 120_000)
    life.live()
    life.arrive(HOUR + 1_000)
    life.live()
    done = mend(life)
    assert [it.state for it in done.outcomes] == [HEALED, OPEN]
    assert "the watermark is at 1970-01-01T01:01:55Z; they close at 1970-01-01T02:00Z, when events dated" in (
        done.outcomes[1].detail
    )
    assert (done.left.late, done.left.healed, done.left.waiting) == (3, 2, 1)


def test_a_refused_span_does_not_stop_the_next(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.arrive(4 * HOUR)
    life.arrive(4 * HOUR, partition=1)
    life.live()
    life.arrive(2 * HOUR)
    life.live()
    fault = Fault()
    life.replay(fault=fault)
    with pytest.raises(Crash):
        life.replay(id="by-hand", fault=Fault(len(fault.calls) - 1))  # an unfinished replay of the first hour
    life.arrive(3_000)
    life.live()
    done = mend(life)
    assert [(it.start, it.state) for it in done.outcomes] == [(0, REFUSED), (2 * HOUR, HEALED)]
    assert "replay by-hand of 1970-01-01T00:00Z to 1970-01-01T01:00Z is not finished" in done.outcomes[0].detail


@pytest.mark.parametrize("pipeline", [TUMBLE, RAW], ids=["windowed", "pass-through"])
def test_killed_at_any_call_and_run_again_it_ends_the_same(pipeline: Pipeline, tmp_path: Path) -> None:
    """A repair that died leaves a replay whose range is that of the next one: it is finished, not refused."""
    life, counter = lived(tmp_path / "whole", pipeline), Fault()
    mend(life, counter, prove=lose(life))
    rows, jobs = life.rows(), [job.state for job in life.flink.jobs() if job.live]
    assert len(counter.calls) > 12
    for at in range(1, len(counter.calls) + 1):
        for after in (False, True):
            life = lived(tmp_path / f"{at}{after}", pipeline)
            prove = lose(life)
            with pytest.raises(Crash):
                mend(life, Fault(at, after), prove=prove)
            died = f"died {'after' if after else 'before'} call {at} ({counter.calls[at - 1]})"
            done = mend(life, prove=prove)
            assert life.rows() == rows, died
            assert [job.state for job in life.flink.jobs() if job.live] == jobs, died
            assert {it.state for it in done.outcomes} <= {HEALED}, died
            assert [it.status for it in life.replays.read().values()] == ["done"], died
            assert not list((tmp_path / f"{at}{after}" / "state" / "replays").rglob("part-*")), died
            assert mend(life, prove=prove).outcomes == (), died


def test_another_failure_ends_it_and_is_told(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.flink.bounded = lambda spec: life.flink.set_state(spec.name, "FAILED", reason="no more memory")
    with pytest.raises(PenstockError, match="no more memory"):
        mend(life)
    life.flink.bounded = life.compute
    done = mend(life)
    assert [(it.why, it.state) for it in done.outcomes] == [("begun before", HEALED)]


def test_the_id_of_a_long_name_s_replay_keeps_what_makes_it_unique() -> None:
    ids = {replay_id("x" * 63) for _ in range(9)}
    assert len(ids) == 9
    assert max(len(it) for it in ids) <= 80


def test_what_a_policy_looks_at(tmp_path: Path) -> None:
    life = lived(tmp_path)
    assert standing(life.pipeline, life.services()) == Standing(2, 0, 0, None, None)
    assert is_due(life.pipeline, life.services(), now=3 * HOUR).why.startswith("2 late events, and no repair since")
    mend(life)
    facts = standing(life.pipeline, life.services())
    assert facts is not None
    assert (facts.ready, facts.waiting, facts.newest, facts.unfinished) == (0, 0, None, None)
    assert facts.repaired is not None
    life.arrive(4_000, id="c")
    life.live()
    with pytest.raises(Crash):
        mend(life, Fault(5))
    facts = standing(life.pipeline, life.services())
    assert facts is not None and facts.unfinished is not None and facts.unfinished.startswith("repair-sales-")
    assert is_due(life.pipeline, life.services()).why == f"{facts.unfinished} is not finished"


def test_what_is_not_applied_is_not_due(tmp_path: Path) -> None:
    life = lived(tmp_path)
    other = replace(life.pipeline, name="another")
    assert is_due(other, life.services()).why == "it is not applied"
