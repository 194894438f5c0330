"""Late events find their segments, and a receipt tells which are healed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from penstock.flink.spec import version
from penstock.replay.record import Asked, Cut, Replay
from penstock.replay.repair import Late, Repair, Span, look, plan_repair, repair

from .test_plan import HOP
from .world import HOUR, RAW, TUMBLE, Life, lived


def _receipt(start: int, end: int, high: int, **more: object) -> Replay:
    asked = Asked(start, end, start, end)
    made = Replay("r", "rolling", version(HOP), asked, status="done", cut=Cut({0: 0}, {0: high}))
    return replace(made, **more)  # type: ignore[arg-type]


def _plan(life: Life) -> Repair:
    return look(life.pipeline, life.services())


def test_late_events_are_healed_once_and_for_all(tmp_path: Path) -> None:
    life = lived(tmp_path)
    todo = _plan(life)
    assert todo == Repair(2, 0, (Span(0, HOUR, 2, open=False),))
    receipts = repair(TUMBLE, todo, life.services(), life.settings, timeout=0.2, steady=0.0)
    assert [it.status for it in receipts] == ["done"]
    assert receipts[0].asked.reason == "repair: 2 late events"
    assert life.rows(0, 60_000) == [(0, 1), (0, 2)]
    assert _plan(life) == Repair(2, 2, ())
    assert repair(TUMBLE, _plan(life), life.services(), life.settings) == []
    life.arrive(4_000, id="c")
    life.live()
    assert _plan(life) == Repair(3, 2, (Span(0, HOUR, 1, open=False),)), "it came after the cut"


def test_segments_with_open_windows_wait(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.arrive(HOUR + 120_000)
    life.live()
    life.arrive(HOUR + 1_000, 5_000)
    life.live()
    spans = _plan(life).spans
    assert spans == (Span(0, HOUR, 3, open=False), Span(HOUR, 2 * HOUR, 1, open=True))
    assert _plan(life).ready == [spans[0]]


def test_a_pass_through_pipeline_has_no_late_events(tmp_path: Path) -> None:
    assert _plan(lived(tmp_path, RAW)) == Repair(0, 0, ())


def test_a_sliding_event_belongs_to_each_segment_of_its_windows() -> None:
    event = Late(0, 7, 2 * HOUR + 60_000)  # in windows that start from 1:05 to 2:00
    todo = plan_repair(HOP, [event], [], 9 * HOUR)
    assert todo.spans == (Span(HOUR, 3 * HOUR, 1, open=False),)
    first, second = _receipt(HOUR, 2 * HOUR, 8), _receipt(2 * HOUR, 3 * HOUR, 8)
    assert plan_repair(HOP, [event], [first], 9 * HOUR) == Repair(1, 0, (Span(2 * HOUR, 3 * HOUR, 1, open=False),))
    assert plan_repair(HOP, [event], [first, second], 9 * HOUR) == Repair(1, 1, ())


def test_only_a_published_replay_with_a_later_cut_heals() -> None:
    event = Late(0, 7, 2 * HOUR)
    whole = _receipt(0, 4 * HOUR, 8)
    assert plan_repair(HOP, [event], [whole], 9 * HOUR).healed == 1
    for other in (
        _receipt(0, 4 * HOUR, 7),
        replace(whole, status="dry"),
        replace(whole, status="running"),
        replace(whole, pipeline="another"),
        replace(whole, cut=Cut({1: 0}, {1: 8})),
    ):
        assert plan_repair(HOP, [event], [other], 9 * HOUR).healed == 0
    assert plan_repair(HOP, [event], [], None).spans[0].open
