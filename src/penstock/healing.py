"""What replays have published, as the ledger sees it: a segment's rows before its replay, and after.

A replay cuts the log and notes the end of the result topic.  What lies before both it has computed anew, from the log
alone: Druid must hold it, whatever the result topic lacks or repeats.  What lies after them is the live job's, as ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from penstock import expr, oracle
from penstock.pipeline import Aggregate, Pipeline
from penstock.segments import ceiling

Offsets = Mapping[int, int]


@dataclass(frozen=True)
class Healing:
    """A replay's publication of the segments that start in `[start, end)` (epoch ms).

    They hold every record before `high`, whatever of the result topic lies before `out`; `events` counts them by
    segment.
    """

    start: int
    end: int
    high: Offsets
    out: Offsets
    events: Mapping[int, int] = field(default_factory=dict)


def segment_of(pipeline: Pipeline, column: str) -> str:
    """Return SQL for the start (epoch ms) of the segment that holds a time."""
    return f"epoch_ms(date_trunc('{pipeline.sink.segment}', make_timestamp({column} * 1000)))"


def result_time(pipeline: Pipeline) -> str:
    """Return the column of the result topic that tells a row's segment."""
    windowed = isinstance(pipeline.transform, Aggregate)
    return "window_start" if windowed else expr.DUCKDB.name(pipeline.source.event_time)


def load_healings(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, healings: Sequence[Healing]) -> None:
    """Fill `healing` and `healed_segment`, the newest replay of each segment, and tell rows of `result` apart by it.

    The view `placed` is `result` with each row's `_segment` and whether it was `_replaced`.
    """
    newest: dict[int, int] = {}
    for number, healing in enumerate(healings):
        at = healing.start
        while at < healing.end:
            newest[at] = number
            at = ceiling(at + 1, pipeline.sink.segment)
    segments = [(at, number, healings[number].events.get(at, 0)) for at, number in newest.items()]
    cuts = [
        (at, number, partition, healings[number].high.get(partition, 0), healings[number].out.get(partition, 0))
        for at, number in newest.items()
        for partition in sorted({*healings[number].high, *healings[number].out})
    ]
    _fill(connection, "healed_segment", ("_segment", "healing", "events"), segments)
    _fill(connection, "healing", ("_segment", "healing", "_partition", "end", "out"), cuts)
    connection.execute(
        "CREATE OR REPLACE VIEW placed AS SELECT r.*, coalesce(r._out_offset < h.out, FALSE) AS _replaced "
        f"FROM (SELECT *, {segment_of(pipeline, result_time(pipeline))} AS _segment FROM result) r "
        "LEFT JOIN healing h ON h._segment = r._segment AND h._partition = r._out_partition"
    )


def _fill(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], rows: Sequence[Sequence[int]]
) -> None:
    arrays = [pa.array([row[at] for row in rows], pa.int64()) for at in range(len(columns))]
    connection.register("batch", pa.table(arrays, names=list(columns)))
    connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM batch")
    connection.unregister("batch")


def expect(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, compared: str) -> None:
    """Build `expected_out` and `expected_served`: `expected`, but for segments that a replay has published.

    There the result topic must hold, after the replay, what came on time past its cut; Druid that, and every record
    before the cut, late or on time, that is not dated too early.  What the result topic should have held before is
    `expected_replaced`.  `compared` is a query with `{}` for the rows.
    """
    for table, condition in (
        ("expected_out", "_segment NOT IN (SELECT _segment FROM healed_segment)"),
        ("expected_served", "_segment NOT IN (SELECT _segment FROM healed_segment)"),
        ("expected_replaced", "FALSE"),
    ):
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM expected WHERE {condition}")
    for (number,) in connection.execute("SELECT DISTINCT healing FROM healed_segment").fetchall():
        cut = f'SELECT DISTINCT _partition, "end" FROM healing WHERE healing = {number}'
        before = 'coalesce(_offset < "end", FALSE)'
        for table, condition in (
            ("expected_out", f"NOT _late AND NOT {before}"),
            ("expected_served", f"NOT _late OR (NOT _early AND {before})"),
            ("expected_replaced", f"NOT _late AND {before}"),
        ):
            connection.execute(
                f"CREATE OR REPLACE TABLE healed_events AS SELECT p.* FROM parsed p LEFT JOIN ({cut}) h "
                f"USING (_partition) WHERE _kept AND ({condition})"
            )
            query = compared.format(f"({oracle.result_query(pipeline, events='healed_events')})")
            covered = f"SELECT _segment FROM healed_segment WHERE healing = {number}"
            connection.execute(f"INSERT INTO {table} SELECT * FROM ({query}) WHERE _segment IN ({covered})")
