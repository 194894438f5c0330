"""Replay on the real stack: a range becomes what the oracle says, late records included; all else stays.

The ranges are random, and begin and end anywhere in a segment.  `PENSTOCK_SEED=...` runs those of a failed run again.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from penstock import oracle
from penstock.compare import served_columns
from penstock.durations import millis
from penstock.errors import PenstockError
from penstock.ledger import served_query
from penstock.load import load_pipelines
from penstock.pipeline import Aggregate, Pipeline
from penstock.replay.scope import Scope, utc, widened
from penstock.segments import moment
from penstock.services.druid import Druid
from penstock.stack import java
from penstock.topics import dlq_topic

from ..cli import Cli

pytestmark = pytest.mark.e2e

# After the days of the tests before: their windows are closed for good.
START, END = "2024-03-01T00:00Z", "2024-03-01T02:00Z"
NAMES = ("clicks_tumble", "clicks_hop", "clicks_raw")
SEED = int(os.environ.get("PENSTOCK_SEED", "") or random.SystemRandom().randrange(10**6))
HOUR = 3_600_000
Rows = dict[int, list[tuple[Any, ...]]]

#: Reads a second of the reader that looks on while segments are replaced.
READS = 20


def make_room(flights: Cli) -> None:
    """Take the flights' jobs away, if they are there: the stack has slots for the clicks' jobs and a replay's."""
    for name in ("airport_delays", "carrier_daily", "flights_raw"):
        flights.call("remove", name)


@pytest.fixture(scope="module")
def disordered(shop: Cli, flights: Cli) -> Cli:
    """Three hours and a bit of clicks with every kind of fault, through all three pipelines, and settled."""
    make_room(flights)
    shop.run("apply")
    shop.produce(60_000, late=0.05, malformed=0.01, too_early=0.001, duplicate=0.01, seed=7, start=START, step=200)
    for ledger in shop.verify(*NAMES):
        assert ledger["equal"], ledger["differences"]
    return shop


def _pipeline(shop: Cli, name: str) -> Pipeline:
    return next(pipeline for pipeline in load_pipelines(shop.project / "jobs") if pipeline.name == name)


def _by_time(pipeline: Pipeline, rows: list[tuple[Any, ...]], columns: list[str]) -> Rows:
    """Group rows by their time, doubles rounded: the order of their sum is not fixed."""
    at = columns.index("window_start" if isinstance(pipeline.transform, Aggregate) else "__time")
    found: Rows = {}
    for row in rows:
        found.setdefault(row[at], []).append(tuple(round(v, 6) if isinstance(v, float) else v for v in row))
    return {time: sorted(group, key=repr) for time, group in found.items()}


def _served(shop: Cli, pipeline: Pipeline) -> Rows:
    columns = list(served_columns(pipeline))
    rows = Druid(shop.stack.env.druid).sql(served_query(pipeline, 2**53))
    return _by_time(pipeline, [tuple(row[name] for name in columns) for row in rows], columns)


def _expected(shop: Cli, pipeline: Pipeline, before: Mapping[int, int] | None = None) -> Rows:
    """What the log (`before` these offsets) gives without any lateness: all but what is broken or dated too early."""
    topic = pipeline.source
    broken = set()
    for letter in shop.read(dlq_topic(shop.stream(pipeline.name))):
        headers = dict(letter.headers)
        broken.add((int(headers["partition"]), int(headers["offset"])))
    kept = [
        record
        for record in shop.read(topic.name)
        if (record.partition, record.offset) not in broken
        and (before is None or record.offset < before[record.partition])
    ]
    columns = list(served_columns(pipeline))
    with duckdb.connect() as connection:
        table = pa.table(
            {
                "partition": [record.partition for record in kept],
                "offset": [record.offset for record in kept],
                "timestamp": [record.timestamp for record in kept],
                "value": pa.array([record.value for record in kept], pa.binary()),
            }
        )
        connection.register("log", table)
        query = oracle.events_query(topic, pipeline.transform.where)
        ahead = f'"{topic.event_time}" - {millis(topic.too_early)} > _timestamp'
        connection.execute(f"CREATE TABLE events AS SELECT * FROM ({query}) WHERE NOT ({ahead})")
        names = ", ".join(f'"{name}"' for name in columns)
        rows = connection.execute(f"SELECT {names} FROM ({oracle.result_query(pipeline)})").fetchall()
    return _by_time(pipeline, rows, columns)


class Reader:
    """Reads the events of each hour, again and again, and keeps every answer that it gets."""

    def __init__(self, shop: Cli, name: str) -> None:
        self.seen: dict[str, list[int]] = {}
        self.failures: list[str] = []
        self.reads = 0
        self._druid = Druid(shop.stack.env.druid)
        self._query = f'SELECT TIME_FLOOR(__time, \'PT1H\') AS "segment", SUM("_rows") AS "n" FROM "{name}" GROUP BY 1'

    def look(self) -> None:
        self.reads += 1
        try:
            rows = self._druid.sql(self._query)
        except PenstockError as error:
            self.failures.append(str(error))
            return
        for row in rows:
            seen = self.seen.setdefault(row["segment"], [])
            if not seen or seen[-1] != row["n"]:
                seen.append(row["n"])

    @contextmanager
    def looking(self) -> Iterator[Reader]:
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                began = time.monotonic()
                self.look()
                done.wait(max(0.0, 1 / READS - (time.monotonic() - began)))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join(60)


def test_a_dry_run_tells_the_difference_and_publishes_nothing(disordered: Cli) -> None:
    pipeline = _pipeline(disordered, "clicks_tumble")
    before = _served(disordered, pipeline)
    words = ("replay", "clicks_tumble", "--from", START, "--to", END, "--dry-run", "--json")
    receipt = json.loads(disordered.run(*words))
    assert receipt["status"] == "dry"
    assert _served(disordered, pipeline) == before
    live = sum(count["events"] for count in receipt["figures"]["before"].values())
    computed = sum(count["events"] for count in receipt["figures"]["computed"].values())
    assert computed > live > 0, "there are late events to count"


def random_range(pipeline: Pipeline, draw: random.Random, start: int, end: int) -> Scope:
    """Draw a range of whole seconds in `[start, end)` that begins in its first half."""
    first = draw.randrange(start, start + (end - start) // 2, 1000)
    return widened(pipeline, first, draw.randrange(first + 1000, end, 1000))


def inside(rows: Rows, within: Scope) -> Rows:
    return {at: found for at, found in rows.items() if within.start <= at < within.end}


def outside(rows: Rows, within: Scope) -> Rows:
    return {at: found for at, found in rows.items() if not within.start <= at < within.end}


def _events(rows: Rows) -> dict[int, int]:
    """Return the events of each hour: `_rows` is the last column."""
    found: dict[int, int] = {}
    for at, group in rows.items():
        found[at - at % HOUR] = found.get(at - at % HOUR, 0) + sum(row[-1] for row in group)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_random_range_becomes_the_oracles_and_the_rest_stays(disordered: Cli, name: str) -> None:
    """Disorder and lateness live, parallelism 2, four partitions; late events lie up to two hours before START."""
    pipeline = _pipeline(disordered, name)
    draw = random.Random(f"{SEED} {name}")
    within = random_range(pipeline, draw, moment("", START) - HOUR, moment("", START) + 3 * HOUR)
    words = ("replay", name, "--from", utc(within.asked[0]), "--to", utc(within.asked[1]), "--id", f"e2e-{name}")
    print(f"PENSTOCK_SEED={SEED}: {' '.join(words)}")
    before, reader = _served(disordered, pipeline), Reader(disordered, name)
    with reader.looking():
        receipt = json.loads(disordered.run(*words, "--reason", "a test", "--json"))
        time.sleep(2)
    assert (receipt["status"], receipt["parallelism"], pipeline.source.partitions) == ("done", 2, 4)
    after = _served(disordered, pipeline)
    assert inside(after, within) == inside(_expected(disordered, pipeline), within)
    assert outside(after, within) == outside(before, within)
    assert (inside(after, within) != inside(before, within)) == (name != "clicks_raw"), "without windows none is late"
    assert reader.failures == []
    assert reader.reads > 50
    old, new = _events(before), _events(after)
    for hour, seen in reader.seen.items():
        at = moment("", hour)
        # The old sum, then the new one, and nothing between.
        assert seen == list(dict.fromkeys(sum_ for sum_ in (old.get(at), new.get(at)) if sum_)), hour


def _quotas(shop: Cli) -> dict[str, float]:
    """Return the client ids that the broker limits, as Kafka's own tool tells them: bytes a second."""
    tool = ["kafka.admin.ConfigCommand", "--bootstrap-server", shop.stack.env.kafka.bootstrap]
    command = [str(java.find(shop.stack.stack)), "-Xmx256m", "-cp", f"{shop.stack.jars / 'kafka'}/*", *tool]
    done = subprocess.run(
        [*command, "--describe", "--entity-type", "clients"], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.findall(r"client-id '([^']+)' are consumer_byte_rate=(\S+)", done.stdout)
    return {client_id: float(rate) for client_id, rate in found}


@pytest.mark.native
def test_the_brokers_limit_what_a_replay_reads_as_long_as_the_file_says_so(disordered: Cli) -> None:
    words = ("replay", "clicks_tumble", "--from", START, "--to", END, "--dry-run")
    file = disordered.project / "penstock.toml"
    text = file.read_text()
    assert "# replay_bytes_per_second = 50_000_000" in text
    file.write_text(text.replace("# replay_bytes", "replay_bytes"))
    try:
        disordered.run(*words)
        limits = _quotas(disordered)
    finally:
        file.write_text(text)
    name = "penstock-native-clicks_tumble-replay"
    subtasks = {client_id: rate for client_id, rate in limits.items() if client_id != f"{name}-verify"}
    assert limits[f"{name}-verify"] == 50_000_000
    assert subtasks and all(client_id.startswith(f"{name}-") for client_id in limits), "nobody else is limited"
    assert set(subtasks.values()) <= {25_000_000, 50_000_000}, "shared by the subtasks"
    disordered.run(*words)
    assert _quotas(disordered) == {}


def test_run_again_it_changes_nothing(disordered: Cli) -> None:
    done = disordered.run("replay", "--id", "e2e-clicks_tumble")
    assert "nothing to do: e2e-clicks_tumble is done since" in done
    history = json.loads(disordered.run("replays", "--json"))
    assert {it["id"]: it["status"] for it in history if it["id"].startswith("e2e-")} == {
        f"e2e-{name}": "done" for name in NAMES
    }


def test_the_ledger_knows_what_was_healed(disordered: Cli) -> None:
    for ledger in disordered.verify(*NAMES):
        assert ledger["equal"], ledger["differences"]
        assert (sum(segment["healed"] for segment in ledger["segments"]) > 0) == (ledger["pipeline"] != "clicks_raw")


def test_what_can_not_be_exact_is_refused(disordered: Cli) -> None:
    refused = disordered.call("replay", "clicks_tumble", "--from", START, "--to", "2024-03-01T05:00Z")
    assert refused.returncode == 3
    assert "windows of the range are still open" in refused.stderr
    assert "is possible now" in refused.stderr


def test_live_rows_go_on_after_a_replay(disordered: Cli) -> None:
    druid = Druid(disordered.stack.env.druid)
    disordered.produce(5_000, seed=8, start="2024-03-01T06:00", step=200)
    for name in NAMES:
        query = f"SELECT COUNT(*) AS n FROM \"{name}\" WHERE __time >= TIMESTAMP '2024-03-01 06:00:00'"
        deadline = time.monotonic() + 60
        while not druid.sql(query)[0]["n"]:
            assert time.monotonic() < deadline, f"{name}: no new row"
            time.sleep(0.5)
