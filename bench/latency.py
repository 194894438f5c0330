"""How soon Druid's SQL returns what was produced, and how fast it answers meanwhile.

A sample ends when the first answer that holds the row has been read, so it includes the query itself and up to 20 ms
between two queries.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from bench import declared
from bench.feed import Feed
from bench.sizes import RATE
from bench.stage import Stage
from bench.watch import Sql
from penstock import Pipeline
from penstock.apply import apply
from penstock.data.event import Event
from penstock.data.produce import produce
from penstock.errors import NotEqualError
from penstock.lifecycle import remove

SENSORS = 16
PARTITIONS = 4
WINDOW_MS = 1_000
#: Seconds of events before the first sample, in which connections are made and code is compiled; and after the last.
SETTLE = 8.0
#: Seconds for the last sample to be seen: far more than it takes, so that none is left out.
PATIENCE = 60.0


def start(stage: Stage, pipeline: Pipeline, *beside: Pipeline) -> None:
    """Apply the pipeline; those that run `beside` it are declared too, else they would be taken for undeclared."""
    apply([*beside, pipeline], stage.services, stage.settings, progress=stage.progress)


def end(stage: Stage, pipeline: Pipeline) -> None:
    """Take the pipeline away: what is measured next has the machine to itself."""
    remove(pipeline.name, stage.services, stage.settings, progress=stage.progress)


# --- Rows: a Select, stored as they are.


def reading(number: int, now: int) -> Event:
    sensor = b"sensor-%d" % (number % SENSORS)
    value = b'{"sensor":"%b","region":"region-%d","route":"route-%d","seq":%d,"value":%d.5,"at":%d}' % (
        sensor,
        number // 7 % 10,
        number // 3 % 100,
        number,
        number % 1000,
        now,
    )
    return Event(sensor, value, now)


def add_history(stage: Stage, count: int) -> None:
    """Put `count` rows of the last half hour into Druid, numbered below 0, and wait until all are there."""
    now = time.time_ns() // 1_000_000
    events = (reading(number, now + number * 1_800_000 // count) for number in range(-count, 0))
    produce(stage.settings.env.kafka, declared.readings, events)
    _await_count(stage, count)


def _await_count(stage: Stage, count: int) -> None:
    """Wait until Druid has this many rows: more would be doubled ones."""

    def look(rows: list[list[int]], _: float) -> bool:
        found = rows[0][0] if rows else 0
        stage.progress.update(f"{found:,} of {count:,} rows in Druid")
        if found > count:
            raise NotEqualError(f"Druid has {found:,} rows of {count:,} that were produced")
        return found == count

    query = f'SELECT COUNT(*) FROM "{declared.rows.name}"'
    Sql(stage.settings.env.druid.broker).watch(lambda: query, look, subject=f"{count:,} rows", timeout=180)


def rows_feed(stage: Stage) -> Feed:
    return Feed(stage.settings.env.kafka, declared.readings, reading, RATE)


def row_latencies(stage: Stage, feed: Feed, seconds: float) -> list[float]:
    """Return produce-to-returned of every event of `seconds` of the feed, in seconds.

    Events of one sensor keep their order, so the highest `seq` of each sensor tells all that can be seen.
    """
    _settle(stage, feed)
    first = len(feed.sent)
    ends = time.perf_counter() + seconds
    seen = {f"sensor-{number}": number - SENSORS for number in range(SENSORS)}
    samples: list[float] = []

    def query() -> str:
        # No row before the oldest unseen one is asked for, so that the question costs the same all the time.
        oldest = feed.dated[min(min(seen.values()) + SENSORS, len(feed.dated) - 1)]
        return (
            f'SELECT "sensor", MAX("seq") FROM "{declared.rows.name}" '
            f'WHERE "seq" >= 0 AND __time >= MILLIS_TO_TIMESTAMP({oldest}) GROUP BY 1'
        )

    def look(rows: list[list[int | str]], now: float) -> bool:
        feed.check()
        for number in newly_seen(seen, dict(rows)):  # type: ignore[arg-type]
            if number >= first and feed.sent[number] < ends:
                samples.append(now - feed.sent[number])
        stage.progress.update(f"produced to returned: {len(samples) // 5000 * 5000:,} rows seen")
        return now > ends and len(samples) == bisect_left(feed.sent, ends) - first

    sql = Sql(stage.settings.env.druid.broker)
    sql.watch(query, look, subject="rows produced", timeout=seconds + PATIENCE)
    return samples


def newly_seen(seen: dict[str, int], highest: Mapping[str, int]) -> Iterator[int]:
    """Yield the numbers that are there now and were not, and note them in `seen`; a sensor's are SENSORS apart."""
    for sensor, number in highest.items():
        yield from range(seen[sensor] + SENSORS, number + 1, SENSORS)
        seen[sensor] = number


def check_rows(stage: Stage, feed: Feed, history: int) -> None:
    """End the feed, and wait until Druid has every row, once."""
    feed.stop()
    _await_count(stage, history + len(feed.sent))


# --- Queries, while rows come in.

#: Questions before the first sample: Druid compiles what it is asked.
WARM_UP = 30

GROUP_BY = f'SELECT "region", "sensor", COUNT(*), SUM("value"), MAX("value") FROM "{declared.rows.name}" GROUP BY 1, 2'
TOP_N = (
    f'SELECT "route", SUM("value") FROM "{declared.rows.name}" '
    "WHERE \"region\" = 'region-3' GROUP BY 1 ORDER BY 2 DESC LIMIT 10"
)


def query_times(stage: Stage, feed: Feed, query: str, count: int) -> list[float]:
    """Ask `count` times, one after the other, and return the seconds of each; WARM_UP ones before are left out."""
    sql = Sql(stage.settings.env.druid.broker)
    times = []
    for number in range(WARM_UP + count):
        feed.check()
        stage.progress.update(f"query {number // 50 * 50} of {WARM_UP + count}")
        times.append(sql.timed(query))
        time.sleep(0.02)
    return times[WARM_UP:]


# --- Windows.


def tick(number: int, now: int) -> Event:
    sensor = b"sensor-%d" % (number % SENSORS)
    return Event(sensor, b'{"sensor":"%b","value":%d,"at":%d}' % (sensor, number % 1000, now), now, "good", number % 4)


def ticks_feed(stage: Stage) -> Feed:
    return Feed(stage.settings.env.kafka, declared.ticks, tick, RATE)


def window_latencies(stage: Stage, feed: Feed, seconds: float) -> list[float]:
    """Return close-to-returned of every window of `seconds` of the feed, in seconds.

    A window is returned when the rows of all its keys are: when they count all events that were dated in it.
    """
    _settle(stage, feed)
    begin = (time.time_ns() // 1_000_000 // WINDOW_MS + 1) * WINDOW_MS
    open_ = [begin + number * WINDOW_MS for number in range(int(seconds))]
    samples: list[float] = []

    def query() -> str:
        return (
            f'SELECT TIMESTAMP_TO_MILLIS(__time), SUM("_rows") FROM "{declared.seconds.name}" '
            f"WHERE __time >= MILLIS_TO_TIMESTAMP({open_[0]}) GROUP BY 1"
        )

    def look(rows: list[list[int]], now: float) -> bool:
        feed.check()
        counted: dict[int, int] = dict(rows)  # type: ignore[arg-type]
        for window in [window for window in open_ if window in counted]:
            there = events_in(feed.dated, window)
            if counted[window] > there:
                raise NotEqualError(f"Druid counts {counted[window]} events of {there} in the window at {window}")
            if counted[window] == there:
                samples.append(now - closed(feed, window))
                open_.remove(window)
        stage.progress.update(f"closed to returned: {len(samples) // 5 * 5} windows seen")
        return not open_

    sql = Sql(stage.settings.env.druid.broker)
    sql.watch(query, look, subject="windows closed", timeout=seconds + PATIENCE)
    return samples


def events_in(dated: Sequence[int], window: int) -> int:
    """Return how many of the ascending event times lie in the window that begins at `window`."""
    return bisect_left(dated, window + WINDOW_MS) - bisect_left(dated, window)


def closed(feed: Feed, window: int) -> float:
    """Return when the event that closes the window was produced: the watermark is the least of all partitions.

    Partitions take turns and times ascend, so it is the PARTITIONS-th event of those dated past the bound.
    """
    first = bisect_left(feed.dated, window + WINDOW_MS - 1 + declared.BOUND_MS)
    return feed.sent[first + PARTITIONS - 1]


def _settle(stage: Stage, feed: Feed) -> None:
    stage.progress.update(f"{RATE:,} events/s, settling")
    deadline = time.perf_counter() + SETTLE
    while time.perf_counter() < deadline:
        feed.check()
        time.sleep(0.2)
