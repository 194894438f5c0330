"""6. The ledger: read = counted + late + dead-lettered, proved per segment from the log down to Druid.

catch up   wait until the job has worked off what the log holds
horizon    windows that ended at or before it have fired by now; only they are compared
cut        the log's last stable offsets, after the horizon: fired windows hold only records before it
settle     wait until the job has committed a checkpoint past the cut, and its transactions are finished
fetch      log, late, dead-letter and result topics, and Druid's rows, into DuckDB
reconcile  recompute and compare (`penstock.reconcile`)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import pyarrow as pa

from penstock import duck, expr, settle
from penstock.compare import served_columns
from penstock.druid import merged_columns
from penstock.durations import millis
from penstock.errors import NoDatasourceError, UnavailableError
from penstock.flink.sql import out_columns
from penstock.healing import Healing, load_healings
from penstock.pipeline import DUCKDB_TYPES, Aggregate, Pipeline
from penstock.reconcile import Ledger, reconcile
from penstock.rejected import read_rejected
from penstock.settings import Settings
from penstock.topics import consumer_group, dlq_topic, late_topic, out_topic
from penstock.wait import Pending, Progress, Silent, until

if TYPE_CHECKING:  # its module imports the Kafka client
    from penstock.services.kafka import Record

Offsets = dict[int, int]


class Log(settle.Log, Protocol):
    """What the ledger needs of Kafka (`penstock.services.kafka`)."""

    def offsets_for_time(self, topic: str, ms: int) -> Offsets: ...
    def read(self, topic: str, start: settle.Offsets, end: settle.Offsets) -> Iterable[list[Record]]: ...


Sql = Callable[[str], list[dict[str, Any]]]


def verify(  # noqa: PLR0913  (services, a range, what was replayed)
    pipeline: Pipeline,
    settings: Settings,
    *,
    log: Log,
    druid: Sql,
    watermark: Callable[[], int | None],
    start: int | None = None,
    end: int | None = None,
    healings: Sequence[Healing] = (),
    redriven: Collection[tuple[int, int, int]] = (),
    timeout: float = 120,
    progress: Progress | None = None,
) -> Ledger:
    """Prove the pipeline's figures for segments of `[start, end)` (epoch ms, aligned to segments; None is unbounded).

    `watermark` gives the window operator's watermark (epoch ms) whose fired windows a completed checkpoint holds, None
    where no job tells it; `timeout` is the seconds that the job on its way to the cut, or Druid after it, may make no
    progress.  `healings` are what replays have published, in that order: there Druid holds late records too.
    `redriven` are the broken records that were sent back (partition, offset, timestamp): a note says how many.
    Raises WaitTimeoutError, UnavailableError.
    """
    show = progress or Silent()
    source, out = pipeline.source.name, out_topic(pipeline.stream)
    _settle(pipeline, settings, log, log.end_offsets(source, committed=True), timeout, show)
    fired, fired_end = watermark(), log.end_offsets(out, committed=True)
    cut = log.end_offsets(source, committed=True)
    _settle(pipeline, settings, log, cut, timeout, show)
    ends = {topic: log.end_offsets(topic, committed=True) for topic in _derived(pipeline)}
    first = log.start_offsets(source)
    notes = []
    if any(first.values()):
        notes.append("the log's oldest records have passed their retention: the first segments may not close")
    if start is not None:
        # An event is dated at most `too_early` ahead of its record's own timestamp, else it is in no figure.
        since = start - millis(pipeline.source.too_early)
        first = {p: max(offset, first[p]) for p, offset in log.offsets_for_time(source, since).items()}
    with duck.connect() as connection:
        show.update(f"reading {sum(cut.values()) - sum(first.values()):,} records of {source}")
        _load_log(connection, log.read_arrow(source, first, cut))
        _load_rejected(connection, log, pipeline, ends, first, cut)
        notes += _redriven(connection, redriven)
        _create_result(connection, pipeline)
        _load_result(connection, log, pipeline, log.start_offsets(out), fired_end)
        horizon = _horizon(connection, pipeline, fired)
        _load_result(connection, log, pipeline, fired_end, ends[out])
        load_healings(connection, pipeline, healings)
        show.update("reading Druid")
        _load_served(connection, log, druid, pipeline, ends[out], horizon, timeout, show, healings)
        # What Druid may have beside what was asked for: rows that were committed while it was read.
        _load_result(connection, log, pipeline, ends[out], log.end_offsets(out, committed=True))
        show.update("comparing with the oracle")
        ledger = reconcile(connection, pipeline, cut=cut, horizon=horizon, start=start, end=end, healings=healings)
    ledger.notes.extend(notes)
    return ledger


def _derived(pipeline: Pipeline) -> list[str]:
    return [out_topic(pipeline.stream), late_topic(pipeline.stream), dlq_topic(pipeline.stream)]


def _settle(pipeline: Pipeline, settings: Settings, log: Log, cut: Offsets, timeout: float, show: Progress) -> None:
    """Wait until a checkpoint covers the cut, then until every transaction begun by then is finished."""
    passed = settle.worked_off(log, consumer_group(settings.env.name, pipeline.stream), pipeline.source.name, cut)
    hint = f"is the job running?  `penstock status`; a stopped one goes on with `penstock start {pipeline.name}`"
    until(f"the job of {pipeline.name}", passed, timeout=timeout, hint=hint, progress=show, patient=True)
    for topic in _derived(pipeline):
        until(
            f"topic {topic}",
            settle.transactions_ended(log, topic),
            timeout=timeout,
            hint=settle.OPEN_HINT,
            progress=show,
        )


def _horizon(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, fired: int | None) -> int | None:
    """The end of the last window known to be fired and committed, in epoch ms; None for a pipeline without windows.

    A checkpoint is one moment for all subtasks: where one window of an end is committed, all that end by then are.
    """
    if not isinstance(pipeline.transform, Aggregate):
        return None
    # All rows are fetched: DuckDB takes no table in while a result is open.
    ((committed,),) = connection.execute("SELECT max(window_end) FROM result").fetchall()
    return max(int(committed or 0), 0 if fired is None else fired + 1)


def _load_log(connection: duckdb.DuckDBPyConnection, batches: Iterable[pa.RecordBatch]) -> None:
    connection.execute('CREATE TABLE log (partition INT, "offset" BIGINT, "timestamp" BIGINT, value BLOB)')
    for batch in batches:
        connection.register("batch", pa.Table.from_batches([batch]))
        connection.execute('INSERT INTO log SELECT partition, "offset", "timestamp", value FROM batch')
        connection.unregister("batch")


def _load_rejected(
    connection: duckdb.DuckDBPyConnection,
    log: Log,
    pipeline: Pipeline,
    ends: dict[str, Offsets],
    first: Offsets,
    cut: Offsets,
) -> None:
    """Load which source records the late and dead-letter topics hold, of the range that is read."""
    connection.execute(
        'CREATE TABLE letters (branch VARCHAR, partition INT, "offset" BIGINT, "timestamp" BIGINT, reason VARCHAR)'
    )
    for branch, topic in (("late", late_topic(pipeline.stream)), ("dlq", dlq_topic(pipeline.stream))):
        for batch in read_rejected(log, topic, pipeline.source.name, ends[topic]):
            table = pa.table(
                {
                    "branch": pa.array([branch] * len(batch), pa.string()),
                    "partition": pa.array([it.partition for it in batch], pa.int32()),
                    "offset": pa.array([it.offset for it in batch], pa.int64()),
                    "timestamp": pa.array([it.timestamp for it in batch], pa.int64()),
                    "reason": pa.array([it.reason for it in batch], pa.string()),
                }
            )
            connection.register("batch", table)
            connection.execute("INSERT INTO letters SELECT * FROM batch")
    bounds = pa.table(
        {
            "partition": pa.array(list(cut), pa.int32()),
            "low": pa.array([first.get(partition, 0) for partition in cut], pa.int64()),
            "high": pa.array(list(cut.values()), pa.int64()),
        }
    )
    connection.register("bounds", bounds)
    # What has another timestamp than the log's record was in a topic of the same name that is gone.
    connection.execute(
        'CREATE TABLE rejected AS SELECT branch, partition, "offset", reason FROM letters '
        'JOIN bounds USING (partition) LEFT JOIN log USING (partition, "offset") '
        'WHERE "offset" >= low AND "offset" < high AND coalesce(log."timestamp" = letters."timestamp", TRUE)'
    )


def _redriven(connection: duckdb.DuckDBPyConnection, redriven: Collection[tuple[int, int, int]]) -> list[str]:
    """Say how many dead letters of the range were sent back, as new records: they count as those do, not as these."""
    if not redriven:
        return []
    columns = zip(("partition", "offset", "timestamp"), map(list, zip(*redriven, strict=True)), strict=True)
    connection.register("redriven", pa.table(dict(columns)))
    ((dead, again),) = connection.execute(
        "SELECT count(*), count(r.partition) FROM log "
        "SEMI JOIN (SELECT * FROM rejected WHERE branch = 'dlq') d USING (partition, \"offset\") "
        'LEFT JOIN redriven r USING (partition, "offset", "timestamp")'
    ).fetchall()
    return [f"{again:,} of {dead:,} dead letters were redriven: they are in the log anew"] if again else []


def _create_result(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline) -> None:
    kinds = out_columns(pipeline.source, pipeline.transform)
    columns = ", ".join(f"{expr.DUCKDB.name(name)} {DUCKDB_TYPES[kind]}" for name, kind in kinds.items())
    connection.execute(f"CREATE TABLE result ({columns}, _out_partition INT, _out_offset BIGINT)")


def _load_result(
    connection: duckdb.DuckDBPyConnection, log: Log, pipeline: Pipeline, start: Offsets, end: Offsets
) -> None:
    kinds = out_columns(pipeline.source, pipeline.transform)
    shape = ", ".join(f'"{name}": "{DUCKDB_TYPES[kind]}"' for name, kind in kinds.items())
    fields = ", ".join(f"_row.{expr.DUCKDB.name(name)}" for name in kinds)
    for batch in log.read_arrow(out_topic(pipeline.stream), start, end):
        connection.register("batch", pa.Table.from_batches([batch]))
        connection.execute(
            f'INSERT INTO result SELECT {fields}, partition, "offset" '
            f"FROM (SELECT *, from_json(decode(value), '{{{shape}}}') AS _row FROM batch)"
        )


def served_query(pipeline: Pipeline, horizon: int | None) -> str:
    """Return the Druid SQL that gives the rows of `penstock.oracle.result_query`."""
    columns = served_columns(pipeline)
    if isinstance(pipeline.transform, Aggregate):
        names = [f'"{name}"' for name in columns if name != "window_start"]
        return (
            f'SELECT TIMESTAMP_TO_MILLIS(__time) AS "window_start", {", ".join(names)} FROM "{pipeline.name}" '
            f'WHERE "window_end" <= {horizon or 0}'
        )
    time = 'TIMESTAMP_TO_MILLIS(__time) AS "__time"'
    if not pipeline.sink.measures:
        return f'SELECT {time}, {", ".join(_quoted(columns, "__time"))} FROM "{pipeline.name}"'
    keys = ["__time", *pipeline.sink.dimensions]
    selected = [time, *_quoted(pipeline.sink.dimensions), *merged_columns(pipeline)]
    grouped = ", ".join(f'"{key}"' for key in keys)
    return f'SELECT {", ".join(selected)} FROM "{pipeline.name}" GROUP BY {grouped}'


def _quoted(names: Iterable[str], *without: str) -> list[str]:
    return [f'"{name}"' for name in names if name not in without]


def _awaited(
    connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, horizon: int | None, healings: Sequence[Healing]
) -> tuple[str, int]:
    """Return which rows Druid is waited for, as SQL, and how many events they count.

    What was replayed is there already, and need not be what the result topic has; without windows, more may follow it.
    """
    if isinstance(pipeline.transform, Aggregate):
        size = millis(pipeline.transform.window.size)
        closed = f'WHERE "window_end" <= {horizon or 0}'
        if pipeline.launch is not None:  # what is older is of another generation
            closed += f' AND "window_end" >= {pipeline.launch.since + size}'
        for it in healings:
            closed += f' AND NOT ("window_end" >= {it.start + size} AND "window_end" < {it.end + size})'
        query = f"SELECT sum(_rows) FROM result {closed}"
    else:
        since = pipeline.launch.since if pipeline.launch is not None else None
        closed = "" if since is None else f"WHERE __time >= MILLIS_TO_TIMESTAMP({since})"
        query = (
            f"SELECT (SELECT count(*) FROM placed WHERE NOT _replaced AND _segment >= {since or -(2**62)}) + "
            "(SELECT coalesce(sum(events), 0) FROM healed_segment)"
        )
    ((wanted,),) = connection.execute(query).fetchall()
    return closed, int(wanted or 0)


def _load_served(
    connection: duckdb.DuckDBPyConnection,
    log: Log,
    druid: Sql,
    pipeline: Pipeline,
    end: Offsets,
    horizon: int | None,
    timeout: float,
    show: Progress,
    healings: Sequence[Healing] = (),
) -> None:
    """Load Druid's rows once its total is that of `.out`, or has stood still beside it for the timeout.

    A total too great may pass, too: while a task comes back, or as rows that a pass-through pipeline goes on to commit.
    """
    closed, wanted = _awaited(connection, pipeline, horizon, healings)

    def ask(query: str) -> list[dict[str, Any]]:
        try:
            return druid(query)
        except NoDatasourceError:
            return []

    def caught_up() -> Pending | bool:
        total = ask(f'SELECT SUM("_rows") AS n FROM "{pipeline.name}" {closed}')
        there = int(total[0]["n"] or 0) if total else 0
        grown = there > wanted and log.end_offsets(out_topic(pipeline.stream), committed=True) != end
        return True if there == wanted or grown else Pending(f"{there:,} of {wanted:,} rows")

    try:
        until(f"Druid's {pipeline.name}", caught_up, timeout=timeout, interval=0.5, progress=show, patient=True)
    except UnavailableError as error:
        show.update(f"{error.message}; comparing what is there")
    columns = served_columns(pipeline)
    listed = ", ".join(f"{expr.DUCKDB.name(name)} {kind}" for name, kind in columns.items())
    connection.execute(f"CREATE TABLE served ({listed})")
    rows = ask(served_query(pipeline, horizon))
    if rows:
        table = pa.table({name: [row[name] for row in rows] for name in columns})
        connection.register("batch", table)
        casts = ", ".join(f"CAST({expr.DUCKDB.name(name)} AS {kind})" for name, kind in columns.items())
        connection.execute(f"INSERT INTO served SELECT {casts} FROM batch")
