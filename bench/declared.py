"""What is measured, declared as any pipeline is."""

from __future__ import annotations

from penstock import Aggregate, Datasource, Field, Hop, Pipeline, Select, Topic, Tumble

#: About 120 bytes as JSON; `click_id` tells each from all others.
_CLICK = [
    Field("click_id", "string"),
    Field("user", "string"),
    Field("page", "string"),
    Field("country", "string"),
    Field("ms", "long"),
    Field("price", "double"),
    Field("at", "timestamp_ms"),
]
MEASURES = {"clicks": "COUNT(*)", "ms_sum": "SUM(ms)", "price_sum": "SUM(price)"}

clicks = Topic("bench.clicked.v1", _CLICK, event_time="at", out_of_orderness="2 s", key="user", partitions=4)
#: The same, with broken and late ones among them.
faulty = Topic("bench.faulty.v1", _CLICK, event_time="at", out_of_orderness="2 s", key="user", partitions=4)

TUMBLE, HOP = Tumble("1 s"), Hop(size="10 s", slide="1 s")

#: What is replayed: hours as they come at RATE, and a whole day, thinner.
hours = Topic("bench.hours.v1", _CLICK, event_time="at", out_of_orderness="2 s", key="user", partitions=4)
day = Topic("bench.day.v1", _CLICK, event_time="at", out_of_orderness="2 s", key="user", partitions=4)


def windowed(name: str, topic: Topic, window: Tumble | Hop) -> Pipeline:
    """Return clicks by page (20 of them) and window."""
    return Pipeline(name, topic, Aggregate(window, by=["page"], measures=MEASURES), Datasource(dimensions=["page"]))


def replayed(name: str, topic: Topic) -> Pipeline:
    """Return clicks by page, country (some 370 pairs) and minute, in segments of an hour."""
    by = ["page", "country"]
    transform = Aggregate(Tumble("1 min"), by=by, measures=MEASURES)
    return Pipeline(name, topic, transform, Datasource(dimensions=by))


#: Readings of sensors: `seq` numbers them all, and those of one sensor keep their order all the way.
readings = Topic(
    "bench.read.v1",
    [
        Field("sensor", "string"),
        Field("region", "string"),
        Field("route", "string"),
        Field("seq", "long"),
        Field("value", "double"),
        Field("at", "timestamp_ms"),
    ],
    event_time="at",
    out_of_orderness="1 s",
    key="sensor",
    partitions=4,
)
rows = Pipeline("bench_rows", readings, Select(), Datasource())

#: Ticks are dated by the wall clock and come in order, so a small bound does.
BOUND_MS = 100
ticks = Topic(
    "bench.ticked.v1",
    [Field("sensor", "string"), Field("value", "long"), Field("at", "timestamp_ms")],
    event_time="at",
    out_of_orderness=f"{BOUND_MS} ms",
    key="sensor",
    partitions=4,
)
seconds = Pipeline(
    "bench_seconds",
    ticks,
    Aggregate(Tumble("1 s"), by=["sensor"], measures={"ticks": "COUNT(*)"}),
    Datasource(dimensions=["sensor"]),
)
