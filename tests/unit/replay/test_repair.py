"""Late events, and what the ledger names, find their segments; receipts tell which are healed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from penstock.flink.spec import version
from penstock.reconcile import Ledger, Segment
from penstock.replay.record import Asked, Cut, Replay
from penstock.replay.repair import Late, Repair, Span, Wrong, look, plan_repair

from .test_plan import HOP
from .world import HOUR, RAW, TUMBLE, Life, lived


def _receipt(start: int, end: int, high: int, **more: object) -> Replay:
    asked = Asked(start, end, start, end)
    made = Replay("r", "rolling", version(HOP), asked, status="done", cut=Cut({0: 0}, {0: high}))
    return replace(made, **more)  # type: ignore[arg-type]


def ledger(*segments: Segment, elsewhere: int = 0) -> Ledger:
    return Ledger("sales", {}, 9 * HOUR, 0, 0, 0, 0, 0, 0, 0, 0, list(segments), [], elsewhere=elsewhere)


def segment(hour: int, *, counted: int = 5, druid: int = 5, differing: int = 0) -> Segment:
    """Return a segment of five events."""
    return Segment(f"1970-01-01T{hour:02}:00:00Z", 5, 0, 0, 0, counted, druid, differing=differing)


def _plan(life: Life) -> Repair:
    return look(life.pipeline, life.services())


def test_segments_with_open_windows_wait(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.arrive(HOUR + 120_000)
    life.live()
    life.arrive(HOUR + 1_000, 5_000)
    life.live()
    todo = _plan(life)
    assert todo.spans == (Span(0, HOUR, 3, open=False), Span(HOUR, 2 * HOUR, 1, open=True))
    assert todo.ready == [todo.spans[0]]
    assert (todo.late, todo.healed, todo.waiting) == (4, 0, 1)


def test_a_pass_through_pipeline_has_no_late_events(tmp_path: Path) -> None:
    assert _plan(lived(tmp_path, RAW)) == Repair(0, 0, ())


def test_a_sliding_event_belongs_to_each_segment_of_its_windows() -> None:
    event = Late(0, 7, 2 * HOUR + 60_000, came=5)  # in windows that start from 1:05 to 2:00
    todo = plan_repair(HOP, [event], [], 9 * HOUR)
    assert todo == Repair(1, 0, (Span(HOUR, 3 * HOUR, 1, open=False),), newest=5)
    first, second = _receipt(HOUR, 2 * HOUR, 8), _receipt(2 * HOUR, 3 * HOUR, 8)
    todo = plan_repair(HOP, [event], [first], 9 * HOUR)
    assert todo == Repair(1, 0, (Span(2 * HOUR, 3 * HOUR, 1, open=False),), newest=5)
    assert plan_repair(HOP, [event], [first, second], 9 * HOUR) == Repair(1, 1, ())
    # Half of its windows are still open: it waits, and the other half is healed meanwhile.
    todo = plan_repair(HOP, [event], [], 3 * HOUR)
    assert todo.spans == (Span(HOUR, 2 * HOUR, 1, open=False), Span(2 * HOUR, 3 * HOUR, 1, open=True))
    assert (todo.waiting, todo.newest) == (1, None)


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


def test_what_the_ledger_names_is_repaired_too_and_it_is_said_why() -> None:
    found = ledger(
        segment(0, counted=2, druid=2),
        segment(1),
        segment(2, counted=7, druid=7),
        segment(3, druid=1),
        segment(4, druid=9, differing=3),
        segment(6, differing=2),
        elsewhere=1,
    )
    todo = plan_repair(TUMBLE, [Late(0, 7, 1_000), Late(0, 8, 2_000)], [], 9 * HOUR, ledger=found)
    assert [(span.start // HOUR, span.end // HOUR, span.why) for span in todo.spans] == [
        (0, 1, "2 late, shortfall of 3"),
        (2, 5, "2 counted more than once, Druid lacks 4, Druid has 4 too many"),
        (6, 7, "2 rows differ"),
    ]
    assert todo.spans[2].wrong == Wrong(differing=2)
    assert todo.elsewhere == 1
    assert not any(span.open for span in todo.spans)
    assert all(span.open for span in plan_repair(TUMBLE, [], [], 0, ledger=found).spans)


def test_a_range_bounds_both() -> None:
    found, late = ledger(segment(0, druid=1), segment(2, druid=1)), [Late(0, 7, 1_000), Late(0, 8, 2 * HOUR)]
    todo = plan_repair(TUMBLE, late, [], 9 * HOUR, ledger=found, within=(HOUR, 3 * HOUR))
    assert [(span.start, span.why) for span in todo.spans] == [(2 * HOUR, "1 late, Druid lacks 4")]
    assert (todo.late, todo.healed) == (1, 0)
