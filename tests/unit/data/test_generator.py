"""Generated events are what they claim to be, and as many."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest

from penstock import Field, Topic
from penstock.data.event import GOOD, Event
from penstock.data.generator import TOO_EARLY_MS, generate
from penstock.data.load import DUPLICATE, LATE, MALFORMED, TOO_EARLY, Clock, Faults, Load, Spread
from penstock.errors import DeclarationError

CLICKS = Topic(
    "web.clicked.v1",
    fields=[
        Field("click_id", "string"),
        Field("user", "string"),
        Field("page 100%", "string", nullable=True),
        Field("clicked_at", "timestamp_ms"),
        Field("seen_at", "timestamp_ms"),
        Field("ms", "long", nullable=True),
        Field("price", "double"),
        Field("mobile", "boolean"),
    ],
    event_time="clicked_at",
    out_of_orderness="30 s",
    key="user",
    partitions=4,
)
ALL = Faults(late=0.05, duplicate=0.03, malformed=0.02, too_early=0.01)
KINDS = {"string": str, "boolean": bool, "long": int, "double": float, "timestamp_ms": int}


def made(load: Load, topic: Topic = CLICKS) -> list[Event]:
    return list(generate(topic, load))


def row(event: Event) -> dict[str, object]:
    value = json.loads(event.value or b"")
    assert isinstance(value, dict)
    return value


def test_rows_are_of_the_declared_types() -> None:
    rows = [row(event) for event in made(Load(3_000))]
    for value in rows:
        assert list(value) == [item.name for item in CLICKS.fields]
        for item in CLICKS.fields:
            assert type(value[item.name]) is KINDS[item.type] or (item.nullable and value[item.name] is None)
    assert any(value["ms"] is None for value in rows)
    assert len({value["click_id"] for value in rows}) == 3_000


def test_a_load_always_makes_the_same_events() -> None:
    load = Load(2_000, seed=7, faults=ALL)
    assert made(load) == made(load)
    assert made(load) != made(Load(2_000, seed=8, faults=ALL))


def test_count_is_all_records_and_shares_hold() -> None:
    kinds = Counter(event.kind for event in made(Load(40_000, faults=ALL)))
    assert sum(kinds.values()) == 40_000
    assert kinds[LATE] == pytest.approx(2_000, rel=0.1)
    assert kinds[DUPLICATE] == pytest.approx(1_200, rel=0.15)
    assert kinds[TOO_EARLY] == pytest.approx(400, rel=0.25)
    assert sum(kinds[kind] for kind in MALFORMED) == pytest.approx(800, rel=0.15)
    turns = [kinds[kind] for kind in MALFORMED if kind != "largest message"]
    assert max(turns) - min(turns) <= 1
    assert kinds["largest message"] == 1
    assert set(Counter(event.kind for event in made(Load(1_000)))) == {GOOD}


def test_good_events_are_on_time_and_late_ones_are_not() -> None:
    """A watermark that trails the newest time of each partition by the bound never passes a good event."""
    late_by = 3_600
    load = Load(20_000, clock=Clock(step_ms=50, disorder_s=29.999, late_by_s=late_by), faults=ALL)
    newest: dict[int, int] = defaultdict(lambda: load.clock.start_ms)
    behind = 0
    for event in made(load):
        if event.kind in MALFORMED:
            continue
        time = row(event)["clicked_at"]
        assert isinstance(time, int)
        assert event.partition is not None
        watermark = newest[event.partition] - 30_000
        if event.kind == TOO_EARLY:
            assert time >= TOO_EARLY_MS
            continue
        if event.kind == LATE:
            assert time <= event.report_time_ms - 30_000 - late_by * 1_000
            continue
        assert time > watermark
        behind += time < newest[event.partition]
        newest[event.partition] = max(newest[event.partition], time)
    assert behind > 5_000  # the disorder is real
    assert max(newest.values()) <= load.last_event_ms


def test_a_duplicate_is_the_same_record_again() -> None:
    seen: dict[tuple[bytes | None, int | None], bytes | None] = {}
    count = 0
    for event in made(Load(5_000, faults=Faults(duplicate=0.1))):
        if event.kind == DUPLICATE:
            count += 1
            assert seen[event.key, event.partition] == event.value
        seen[event.key, event.partition] = event.value
    assert count > 400


def test_a_key_stays_in_one_partition_and_idle_ones_get_nothing() -> None:
    events = made(Load(10_000, spread=Spread(keys=50, hot_key=0.4, idle=[1, 3]), faults=ALL))
    partitions = defaultdict(set)
    for event in events:
        partitions[event.key].add(event.partition)
    assert all(len(found) == 1 for found in partitions.values())
    assert {event.partition for event in events} == {0, 2}
    share = Counter(event.key for event in events)[b"user-0"] / len(events)
    assert share == pytest.approx(0.4 + 0.6 / 50, abs=0.03)


def test_without_a_key_partitions_take_turns() -> None:
    topic = Topic("a.b.v1", [Field("at", "timestamp_ms")], event_time="at", partitions=3)
    events = made(Load(300, spread=Spread(idle=[0])), topic)
    assert Counter(event.partition for event in events) == {1: 150, 2: 150}
    assert {event.key for event in events} == {None}


def test_keys_that_are_numbers() -> None:
    fields = [Field("n", "long"), Field("at", "timestamp_ms")]
    topic = Topic("a.b.v1", fields, event_time="at", key="n")
    for event in made(Load(500, faults=ALL), topic):
        if event.kind == GOOD:
            assert str(row(event)["n"]).encode() == event.key


def test_event_time_spans_many_windows() -> None:
    times = [row(event)["clicked_at"] for event in made(Load(1_000, clock=Clock(start_ms=0, step_ms=60_000)))]
    assert max(times) - min(times) > 990 * 60_000  # type: ignore[operator, type-var]


def test_all_mistakes_of_a_load_are_told_at_once_and_at_once() -> None:
    load = Load(
        0,
        clock=Clock(step_ms=0, disorder_s=30, late_by_s=0),
        spread=Spread(keys=0, hot_key=2, idle=[9]),
        faults=Faults(late=0.7, malformed=0.7),
    )
    with pytest.raises(DeclarationError) as caught:
        generate(CLICKS, load)
    text = str(caught.value)
    for name in ("count", "step", "disorder", "late by", "keys", "hot key", "idle", "in all"):
        assert name in text, name
    with pytest.raises(DeclarationError, match="at least one of the 4 partitions"):
        generate(CLICKS, Load(1, spread=Spread(idle=range(4))))
