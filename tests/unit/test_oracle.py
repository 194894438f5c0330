"""The oracle against arithmetic done by hand, in plain Python, over seeded random events."""

from __future__ import annotations

import random
from collections import defaultdict

import duckdb
import pytest

from penstock import Aggregate, Datasource, Field, Hop, Pipeline, Topic, Tumble, oracle

TOPIC = Topic(
    "shop.sold.v1",
    fields=[Field("id", "string", nullable=True), Field("value", "long", nullable=True), Field("at", "timestamp_ms")],
    event_time="at",
)
MEASURES = {"n": "COUNT(*)", "total": "SUM(value)", "least": "MIN(value)", "ids": "COUNT(DISTINCT value)"}


@pytest.mark.parametrize(("size", "slide"), [(10_000, 10_000), (60_000, 10_000), (7_000, 1_000)])
@pytest.mark.parametrize("seed", range(4))
def test_windows_hold_exactly_their_events(size: int, slide: int, seed: int) -> None:
    draw = random.Random(seed)
    events = []
    for _ in range(300):
        at = draw.randrange(-90_000, 90_000)  # both sides of the epoch
        at -= at % slide if draw.random() < 0.3 else 0  # and the very edges of windows
        events.append((draw.choice(["a", "b", None]), draw.choice([None, *range(-3, 4)]), at))
    expected = defaultdict(list)
    for start in range(-400 * slide, 400 * slide, slide):
        for key, value, at in events:
            if start <= at < start + size:
                expected[start, key].append(value)
    window = Tumble(f"{size} ms") if size == slide else Hop(size=f"{size} ms", slide=f"{slide} ms")
    declared = Pipeline("sales", TOPIC, Aggregate(window, by=["id"], measures=MEASURES), Datasource(dimensions=["id"]))
    with duckdb.connect() as connection:
        connection.execute('CREATE TABLE events (id VARCHAR, value BIGINT, "at" BIGINT)')
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", events)
        found = connection.execute(oracle.result_query(declared)).fetchall()
    reckoned = []
    for (start, key), values in expected.items():
        known = [value for value in values if value is not None]
        total, least = (sum(known), min(known)) if known else (None, None)
        reckoned.append((start, start + size, key, len(values), total, least, len(set(known)), len(values)))
    assert sorted(found, key=repr) == sorted(reckoned, key=repr)
