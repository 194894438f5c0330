"""Verify what a replay has computed: its files against the log, in DuckDB.  Shares no code with Flink."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from penstock import duck, expr, oracle
from penstock.compare import differences, duplicates, identity, measure_columns
from penstock.durations import millis
from penstock.errors import NotEqualError, PenstockError
from penstock.flink.sql import out_columns
from penstock.healing import segment_of
from penstock.pipeline import DUCKDB_TYPES, Aggregate, Pipeline
from penstock.rejected import read_rejected
from penstock.replay.record import Count, Counts
from penstock.replay.scope import Scope, utc
from penstock.services.protocols import KafkaService
from penstock.topics import dlq_topic
from penstock.validate import GRANULARITIES
from penstock.wait import Progress

#: Records of the log up to which every row is recomputed; of more, a share of the windows is.
ALL = 5_000_000
#: Records that are parsed at a time.
CHUNK = 200_000
#: How many differences are named.
NAMED = 10

Offsets = Mapping[int, int]


@dataclass(frozen=True)
class Verified:
    """What was found equal: counts of each segment (by its start, epoch ms), each measure's sum over all rows, and how
    many rows were compared one by one.
    """

    computed: Counts
    sums: Mapping[str, float | None]
    compared: int
    share: int


@dataclass(frozen=True)
class Log:
    """What the log holds of a range: every event counted, those of every `share`-th window at hand.  Close it."""

    connection: duckdb.DuckDBPyConnection
    share: int


def read_log(
    pipeline: Pipeline,
    scope: Scope,
    kafka: KafkaService,
    low: Offsets,
    high: Offsets,
    show: Progress,
    *,
    broken: Sequence[Mapping[str, Any]] | None = None,
    rate: float | None = None,
    client_id: str | None = None,
) -> Log:
    """Read the log's records of low <= offset < high; those of long stretches are counted, and kept in part.

    `broken` are records that can't be read, by `partition`, `offset` and `timestamp`; None: those in the dead-letter
    topic.
    At most `rate` records a second are read, under the name `client_id`, by which the brokers may limit it.
    """
    total = sum(max(0, high[partition] - low[partition]) for partition in high)
    found = Log(duck.connect(), share=1 + total // ALL)
    try:
        log = paced(_chunks(kafka.read_arrow(pipeline.source.name, low, high, client_id=client_id)), rate)
        _load_broken(found.connection, pipeline, kafka, broken)
        _load_events(found.connection, pipeline, scope, ahead(log), found.share, show)
    except BaseException:
        found.connection.close()
        raise
    return found


def verify(pipeline: Pipeline, scope: Scope, log: Log, files: Path, show: Progress) -> Verified:
    """Compare the files in `files` with the log.  Raises NotEqualError naming what differs.

    Every event of the range is counted; each row is recomputed, or where the log is long, those of every n-th window.
    """
    share = log.share
    with log.connection as connection:
        _load_computed(connection, pipeline, files)
        show.update("comparing with the log")
        problems = [
            *_stray(connection, pipeline, scope),
            *map(str, duplicates(connection, "computed", identity(pipeline), "in the files")),
            *_miscounted(connection, pipeline),
        ]
        compared = _expect(connection, pipeline, share)
        problems += map(str, differences(connection, pipeline, "computed_rows", "the files"))
        if problems:
            more = f"\n... and {len(problems) - NAMED:,} more" if len(problems) > NAMED else ""
            raise NotEqualError(
                f"{pipeline.name}: what was computed is not what the log gives; nothing was published\n"
                + "\n".join(problems[:NAMED])
                + more,
                hint=f"the files are kept in {files}",
            )
        return Verified(_counts(connection, pipeline), _sums(connection, pipeline), compared, share)


def files_in(folder: Path) -> list[Path]:
    """Return the files of a finished job: what Flink has not committed, and what is hidden, is none."""
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(part[0] in "._" for part in _below(file, folder))
    )


def _below(file: Path, folder: Path) -> tuple[str, ...]:
    return file.relative_to(folder).parts


def _load_events(
    connection: duckdb.DuckDBPyConnection,
    pipeline: Pipeline,
    scope: Scope,
    log: Iterator[pa.Table],
    share: int,
    show: Progress,
) -> None:
    """Fill `events` (those of the windows that are recomputed) and `counted` (events of each segment, all of them)."""
    topic = pipeline.source
    time = expr.DUCKDB.name(topic.event_time)
    in_range = (
        f"{time} >= {scope.start} AND {time} < {scope.events_end} AND {time} - {millis(topic.too_early)} <= _timestamp"
    )
    fields = ", ".join(f"{expr.DUCKDB.name(item.name)} {DUCKDB_TYPES[item.type]}" for item in topic.fields)
    connection.execute(f"CREATE TABLE events (_partition INT, _offset BIGINT, _timestamp BIGINT, {fields})")
    connection.execute("CREATE TABLE counts (_segment BIGINT, n BIGINT)")
    done, whole = 0, not connection.execute("FROM broken LIMIT 1").fetchall()
    readable = oracle.events_query(topic, pipeline.transform.where, log="chunk" if whole else "readable")
    # Materialized: else each record is parsed once for the condition, and once more for the columns.
    query = f"WITH read AS MATERIALIZED ({readable}) SELECT * FROM read WHERE {in_range}"
    for chunk in log:
        connection.register("chunk", chunk)
        if not whole:
            # A table: the planner may move the parsing before the join that takes broken records out.
            connection.execute(
                "CREATE OR REPLACE TABLE readable AS FROM chunk "
                'ANTI JOIN broken USING (partition, "offset", "timestamp")'
            )
        try:
            connection.execute(f"CREATE OR REPLACE TABLE parsed AS {query}")
        except duckdb.Error as error:
            raise PenstockError(
                f"{topic.name} holds a record that can't be read and is not in {dlq_topic(pipeline.stream)}: {error}",
                hint=f"`penstock verify {pipeline.name}` says more",
            ) from None
        connection.execute(f"INSERT INTO counts {_pairs(pipeline, scope)}")
        connection.execute(f"INSERT INTO events SELECT * FROM parsed WHERE {_sampled_event(pipeline, share)}")
        done += chunk.num_rows
        show.update(f"{done:,} records read")
    connection.execute("CREATE VIEW counted AS SELECT _segment, sum(n) AS n FROM counts GROUP BY 1")


def _chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(item.num_rows for item in held) >= CHUNK:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


def paced(chunks: Iterator[pa.Table], rate: float | None) -> Iterator[pa.Table]:
    """Hold the chunks back so that no more than `rate` records a second pass; None holds nothing back."""
    began, done = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        done += chunk.num_rows
        if rate is not None:
            time.sleep(max(0.0, began + done / rate - time.monotonic()))


def ahead(chunks: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the chunks, each read while the caller works on the one before: DuckDB and Kafka's client both let go of
    Python's lock meanwhile.

    The reader is a thread that keeps no process alive; it ends when the caller does.
    """
    line: queue.SimpleQueue[pa.Table | BaseException | None] = queue.SimpleQueue()
    wanted, left = threading.Semaphore(), threading.Event()

    def read() -> None:
        try:
            while True:
                wanted.acquire()
                if left.is_set():
                    return
                chunk = next(chunks, None)
                line.put(chunk)
                if chunk is None:
                    return
        except BaseException as error:
            line.put(error)

    threading.Thread(target=read, name="read the log", daemon=True).start()
    try:
        while (chunk := line.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            wanted.release()
            yield chunk
    finally:
        left.set()
        wanted.release()


def dead_letters(files: Path) -> list[dict[str, Any]]:
    """Return the dead letters that a bounded job has left beside its `files`.

    Each has partition, offset, timestamp, reason and bytes: base64, None where the record has no value.
    """
    return [json.loads(line) for file in files_in(dead_folder(files)) for line in file.read_text("utf-8").splitlines()]


def dead_folder(files: Path) -> Path:
    return files.with_name(f"{files.name}-dead")


def _load_broken(
    connection: duckdb.DuckDBPyConnection,
    pipeline: Pipeline,
    kafka: KafkaService,
    told: Sequence[Mapping[str, Any]] | None,
) -> None:
    connection.execute('CREATE TABLE broken (partition INT, "offset" BIGINT, "timestamp" BIGINT)')
    for rows in _broken(pipeline, kafka) if told is None else [[_place(it) for it in told]]:
        columns = zip(("partition", "offset", "timestamp"), zip(*rows, strict=True), strict=False)
        found = {name: pa.array(column, pa.int64()) for name, column in columns}
        if found:
            connection.register("batch", pa.table(found))
            connection.execute("INSERT INTO broken SELECT * FROM batch")


def _place(letter: Mapping[str, Any]) -> tuple[int, int, int]:
    return int(letter["partition"]), int(letter["offset"]), int(letter["timestamp"])


def _broken(pipeline: Pipeline, kafka: KafkaService) -> Iterator[list[tuple[int, int, int]]]:
    for batch in read_rejected(kafka, dlq_topic(pipeline.stream), pipeline.source.name):
        yield [(it.partition, it.offset, it.timestamp) for it in batch]


def _pairs(pipeline: Pipeline, scope: Scope) -> str:
    """Count the events of `parsed` in each segment, once for each window of the range that holds them."""
    if isinstance(pipeline.transform, Aggregate):
        source = oracle.windows_query(pipeline, events="parsed")
        where = f"_window >= {scope.start} AND _window < {scope.end}"
        return f"SELECT {segment_of(pipeline, '_window')}, count(*) FROM ({source}) WHERE {where} GROUP BY 1"
    time = expr.DUCKDB.name(pipeline.source.event_time)
    return f"SELECT {segment_of(pipeline, time)}, count(*) FROM parsed GROUP BY 1"


def _step(pipeline: Pipeline) -> int:
    """The span (ms) of what is recomputed whole or not at all: a window's slide, a granule of the roll-up."""
    if isinstance(pipeline.transform, Aggregate):
        return millis(pipeline.transform.window.slide)
    return GRANULARITIES[pipeline.sink.granularity][1] if pipeline.sink.granularity else 1000


def _sampled_event(pipeline: Pipeline, share: int) -> str:
    """The condition for events of every `share`-th window; those of a sliding window are in several."""
    step, time = _step(pipeline), expr.DUCKDB.name(pipeline.source.event_time)
    windows = 1
    if isinstance(pipeline.transform, Aggregate):
        windows = millis(pipeline.transform.window.size) // step
    return f"({time} // {step}) % {share} < {windows}"


def _load_computed(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, folder: Path) -> None:
    kinds = out_columns(pipeline.source, pipeline.transform)
    columns = ", ".join(f"{expr.DUCKDB.name(name)} {DUCKDB_TYPES[kind]}" for name, kind in kinds.items())
    connection.execute(f"CREATE TABLE computed ({columns})")
    shape = ", ".join(f"'{name}': '{DUCKDB_TYPES[kind]}'" for name, kind in kinds.items())
    # An empty file is what a subtask without a row may leave.
    files = [str(file) for file in files_in(folder) if file.stat().st_size]
    if files:
        connection.execute(
            f"INSERT INTO computed BY NAME SELECT * FROM read_json(?, format='newline_delimited', columns={{{shape}}})",
            [files],
        )


def _time(pipeline: Pipeline) -> str:
    return "window_start" if isinstance(pipeline.transform, Aggregate) else expr.DUCKDB.name(pipeline.source.event_time)


def _events(pipeline: Pipeline) -> str:
    return "sum(_rows)" if isinstance(pipeline.transform, Aggregate) else "count(*)"


def _stray(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, scope: Scope) -> list[str]:
    """Name what would be published outside the range, or without an event behind it."""
    time = _time(pipeline)
    row = connection.execute(
        f"SELECT count(*) FROM computed WHERE {time} < {scope.start} OR {time} >= {scope.end}"
    ).fetchone()
    found = [f"{row[0]:,} rows lie outside {utc(scope.start)} to {utc(scope.end)}"] if row and row[0] else []
    if isinstance(pipeline.transform, Aggregate):
        row = connection.execute("SELECT count(*) FROM computed WHERE _rows < 1 OR _rows IS NULL").fetchone()
        found += [f"{row[0]:,} rows have no event behind them"] if row and row[0] else []
    return found


def _miscounted(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline) -> list[str]:
    query = (
        f"SELECT {segment_of(pipeline, _time(pipeline))} AS _segment, {_events(pipeline)} AS n FROM computed GROUP BY 1"
    )
    rows = connection.execute(
        f"SELECT _segment, coalesce(c.n, 0), coalesce(f.n, 0) FROM counted c FULL JOIN ({query}) f USING (_segment) "
        "WHERE c.n IS DISTINCT FROM f.n ORDER BY 1"
    ).fetchall()
    return [f"segment {utc(start)}: {log:,} events in the log, {files:,} in the files" for start, log, files in rows]


def _expect(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, share: int) -> int:
    """Build `expected` and `computed_rows`, of the sampled windows; return how many rows are expected."""
    step = _step(pipeline)
    windowed = isinstance(pipeline.transform, Aggregate)
    computed = "computed" if windowed else f"({oracle.result_query(pipeline, events='computed')})"
    sampled = f"({'window_start' if windowed else '__time'} // {step}) % {share} = 0"
    connection.execute(f"CREATE TABLE expected AS SELECT * FROM ({oracle.result_query(pipeline)}) WHERE {sampled}")
    if windowed:
        # Windows that begin outside the range were only touched by its events.
        connection.execute(
            f"DELETE FROM expected WHERE {segment_of(pipeline, 'window_start')} NOT IN (SELECT _segment FROM counted)"
        )
    connection.execute(f"CREATE VIEW computed_rows AS SELECT * FROM {computed} WHERE {sampled}")
    row = connection.execute("SELECT count(*) FROM expected").fetchone()
    return int(row[0]) if row else 0


def _sums(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline) -> dict[str, float | None]:
    names = measure_columns(pipeline)
    if not names:
        return {}
    rolled = not isinstance(pipeline.transform, Aggregate) and pipeline.sink.measures
    rows = f"({oracle.result_query(pipeline, events='computed')})" if rolled else "computed"
    found = connection.execute(f"SELECT {', '.join(f'sum({expr.DUCKDB.name(name)})' for name in names)} FROM {rows}")
    # A sum of BIGINTs is a HUGEINT, in Python an int.
    return dict(zip(names, found.fetchone() or (), strict=True))


def _counts(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline) -> dict[int, Count]:
    """Return rows as Druid will hold them, and events, of each segment."""
    segment = segment_of(pipeline, _time(pipeline))
    query = f"SELECT {segment}, count(*), {_events(pipeline)} FROM computed GROUP BY 1 ORDER BY 1"
    rows = connection.execute(query).fetchall()
    rolled: dict[int, int] = {}
    if pipeline.sink.measures:
        rows_of = oracle.result_query(pipeline, events="computed")
        query = f"SELECT {segment_of(pipeline, '__time')}, count(*) FROM ({rows_of})"
        rolled = dict(connection.execute(f"{query} GROUP BY 1").fetchall())
    return {int(start): Count(int(rolled.get(start, n)), int(events)) for start, n, events in rows}
