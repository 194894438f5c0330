"""Reconcile figures with the log, in DuckDB.  No network: tables in, a ledger out.

Tables of the connection, filled by `penstock.ledger`:

- `log(partition, "offset", "timestamp", value)`: the source up to the cut;
- `rejected(branch, partition, "offset", reason)`: what is in the late and dead-letter topics, of the same range;
- `result`: the rows of `.out`, as `penstock.flink.sql.out_columns` has them, with `_out_partition` and `_out_offset`,
  where they are in it;
- `served`: what Druid returns, as `penstock.oracle.result_query` has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from penstock import expr, oracle
from penstock.compare import (
    Difference,
    differences,
    duplicates,
    identity,
    key_columns,
    time_column,
    utc,
    wrongly_rejected,
)
from penstock.durations import millis
from penstock.healing import Healing, expect, load_healings, result_time, segment_of
from penstock.pipeline import Aggregate, Pipeline
from penstock.segments import floor, moment

#: How many differences are named one by one.
NAMED = 20


@dataclass(frozen=True)
class Segment:
    """One segment's account.  Counts are events, or, where windows overlap, (event, window) pairs.

    `healed` are those of the late ones that a replay has counted: they are in Druid, not in the result topic.
    `made_good` are those that the result topic lacks from before the replay (repeats, where negative): Druid is right,
    since the replay has computed them from the log.  `differing` rows of Druid or the result topic are not the log's.
    """

    start: str
    read: int
    filtered: int
    late: int
    open: int
    counted: int
    druid: int
    healed: int = 0
    made_good: int = 0
    differing: int = 0

    @property
    def begins(self) -> int:
        return moment("segment", self.start)

    @property
    def shortfall(self) -> int:
        """Rows that were read and are nowhere (positive), or counted more than once (negative)."""
        return self.read - self.filtered - self.late - self.open - self.counted - self.made_good

    @property
    def excess(self) -> int:
        """Rows that Druid has beyond what was counted and healed (positive), or lacks of it (negative)."""
        return self.druid - self.counted - self.healed - self.made_good

    @property
    def closes(self) -> bool:
        return self.shortfall == self.excess == 0

    @property
    def equal(self) -> bool:
        return self.closes and self.differing == 0

    def __str__(self) -> str:
        counts = f"{self.counted:,} counted, {self.filtered:,} filtered, {self.late:,} late, {self.open:,} open"
        counts += f", {self.healed:,} healed" if self.healed else ""
        counts += f", {self.made_good:,} made good" if self.made_good else ""
        return f"segment {self.start}: {self.read:,} read, {counts}; Druid has {self.druid:,}"


@dataclass(frozen=True)
class Ledger:
    """The account of one pipeline up to a cut.  `horizon`: windows ending at or before it (epoch ms) are compared.

    `elsewhere` counts differences that are no segment's, such as a record in the late topic that the log does not have.
    """

    pipeline: str
    cut: dict[int, int]
    horizon: int | None
    read: int
    dead_lettered: int
    late: int
    too_early: int
    filtered: int
    rows_compared: int
    windows_compared: int
    windows_open: int
    segments: list[Segment]
    differences: list[str]
    more_differences: int = 0
    elsewhere: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def on_time(self) -> int:
        return self.read - self.dead_lettered - self.late - self.too_early - self.filtered

    @property
    def equal(self) -> bool:
        return not self.differences and all(segment.equal for segment in self.segments)


def reconcile(
    connection: duckdb.DuckDBPyConnection,
    pipeline: Pipeline,
    *,
    cut: dict[int, int],
    horizon: int | None,
    start: int | None = None,
    end: int | None = None,
    healings: Sequence[Healing] = (),
) -> Ledger:
    """Close the ledger of the tables above, for segments of `[start, end)` (epoch ms; None is unbounded).

    `healings` are what replays have published, in that order: of a segment, the last one counts.
    """
    load_healings(connection, pipeline, healings)
    _prepare(connection, pipeline, cut, horizon, start, end)
    wrong = _wrong(connection, pipeline)
    segments = _segments(connection, _by_segment(pipeline, wrong))
    found = [*(str(segment) for segment in segments if not segment.closes), *map(str, wrong)]
    reasons = dict(
        connection.execute(
            "SELECT CASE WHEN branch = 'dlq' THEN 'dead' WHEN reason = 'too early' THEN 'early' ELSE 'late' END, "
            'count(*) FROM (SELECT DISTINCT branch, partition, "offset", reason FROM rejected) GROUP BY 1'
        ).fetchall()
    )
    windowed = isinstance(pipeline.transform, Aggregate)
    moving = 0 if windowed else _count(connection, "SELECT count(*) FROM moving")
    return Ledger(
        pipeline=pipeline.name,
        cut=cut,
        horizon=horizon,
        read=_count(connection, "SELECT count(*) FROM log"),
        dead_lettered=reasons.get("dead", 0),
        late=reasons.get("late", 0),
        too_early=reasons.get("early", 0),
        filtered=_count(connection, "SELECT count(*) FROM parsed WHERE NOT _kept"),
        rows_compared=_count(connection, "SELECT count(*) FROM expected"),
        windows_compared=_count(connection, "SELECT count(DISTINCT window_start) FROM expected") if windowed else 0,
        windows_open=(
            _count(connection, "SELECT count(DISTINCT _time) FROM pairs WHERE NOT _closed AND _kept AND NOT _late")
            if windowed
            else 0
        ),
        segments=segments,
        differences=found[:NAMED],
        more_differences=max(0, len(found) - NAMED),
        elsewhere=sum(it.time is None for it in wrong),
        notes=[
            *([f"{moving} segments are being written to: they are left open"] if moving else []),
            *_made_good(connection, pipeline, segments),
        ],
    )


def _wrong(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline) -> list[Difference]:
    """Name all that is not as the log gives it, but what a replay has replaced."""
    keys = ", ".join(map(expr.DUCKDB.name, key_columns(pipeline)))
    out, druid = result_time(pipeline), time_column(pipeline)
    return [
        *duplicates(connection, "rejected", 'partition, "offset"', "sent to the late or dead-letter topic"),
        *wrongly_rejected(connection, pipeline),
        *duplicates(connection, "result_left", identity(pipeline), "in the result topic", time=out),
        *duplicates(connection, "served_rows", keys, "in Druid", time=druid),
        *differences(connection, pipeline, "result_rows", "the result topic", expected="expected_out"),
        *differences(connection, pipeline, "served_rows", "Druid", expected="expected_served"),
    ]


def _by_segment(pipeline: Pipeline, found: Sequence[Difference]) -> Mapping[int, int]:
    return Counter(floor(it.time, pipeline.sink.segment) for it in found if it.time is not None)


def _made_good(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, segments: Sequence[Segment]) -> list[str]:
    """Tell what the result topic holds from before a replay that is not the log's: Druid is right nevertheless."""
    if not _count(connection, "SELECT count(*) FROM healed_segment"):
        return []
    rows = len(differences(connection, pipeline, "replaced_rows", "the result topic", expected="expected_replaced"))
    rows += len(duplicates(connection, "replaced", identity(pipeline), "in the result topic"))
    lacking = sum(max(0, segment.made_good) for segment in segments)
    repeated = sum(max(0, -segment.made_good) for segment in segments)
    if not (rows or lacking or repeated):
        return []
    counts = f"{lacking:,} events are missing, {repeated:,} repeated" if lacking or repeated else "other figures"
    return [f"the result topic differs from the log in {rows:,} rows ({counts}): made good by replays"]


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _not_read(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, low: Mapping[int, int]) -> None:
    """Mark what is dated too early and lies before where the job began to read: no late topic tells it."""
    below = " OR ".join(f"(_partition = {partition} AND _offset < {offset})" for partition, offset in low.items())
    ahead = f"{expr.DUCKDB.name(pipeline.source.event_time)} > _timestamp + {millis(pipeline.source.too_early)}"
    connection.execute(f"UPDATE parsed SET _late = TRUE, _early = TRUE WHERE ({ahead}) AND ({below or 'FALSE'})")


def _prepare(
    connection: duckdb.DuckDBPyConnection,
    pipeline: Pipeline,
    cut: dict[int, int],
    horizon: int | None,
    start: int | None,
    end: int | None,
) -> None:
    """Build `parsed`, `pairs` (one row an event and window), what is expected, and what is there.

    Compared are windows that have closed; without windows, segments that no record past the cut has reached.
    """
    topic, transform = pipeline.source, pipeline.transform
    condition = "TRUE"
    if transform.where is not None:
        text = expr.render(transform.where, [item.name for item in topic.fields], expr.DUCKDB)
        condition = f"COALESCE({text}, FALSE)"
    # A table, not a view: the planner may move the parsing of a view before the join that takes broken records out.
    connection.execute(
        "CREATE OR REPLACE TABLE readable AS SELECT * FROM log "
        "ANTI JOIN (SELECT * FROM rejected WHERE branch = 'dlq') USING (partition, \"offset\")"
    )
    connection.execute(
        f"CREATE OR REPLACE TABLE parsed AS SELECT e.*, {condition} AS _kept, l.partition IS NOT NULL AS _late,\n"
        "coalesce(l.early, FALSE) AS _early\n"
        f"FROM ({oracle.events_query(topic, log='readable')}) e\n"
        "LEFT JOIN (SELECT partition, \"offset\", bool_or(reason = 'too early') AS early FROM rejected "
        "WHERE branch = 'late' GROUP BY ALL) l\n"
        'ON l.partition = e._partition AND l."offset" = e._offset'
    )
    if pipeline.launch is not None:
        _not_read(connection, pipeline, dict(pipeline.launch.low))

    def segment(column: str) -> str:
        return segment_of(pipeline, column)

    def closed(time: str) -> str:
        if isinstance(transform, Aggregate):
            return f"{time} + {millis(transform.window.size)} <= {horizon or 0}"
        return f"{segment(time)} NOT IN (SELECT _segment FROM moving)"

    def in_range(column: str) -> str:
        low = "TRUE" if start is None else f"{column} >= {start}"
        return low if end is None else f"{low} AND {column} < {end}"

    def compared(rows: str, time: str) -> str:
        return f"SELECT *, {segment(time)} AS _segment FROM {rows} WHERE {closed(time)} AND {in_range(time)}"

    time, out_time = time_column(pipeline), result_time(pipeline)
    if isinstance(transform, Aggregate):
        windows = oracle.windows_query(pipeline, events="parsed")
        pairs = f"SELECT _window AS _time, _kept, _late, _early, _partition, _offset FROM ({windows})"
    else:
        pairs = f"SELECT {out_time} AS _time, _kept, _late, _early, _partition, _offset FROM parsed"
        connection.execute('CREATE OR REPLACE TABLE cut (_partition INT, "end" BIGINT)')
        connection.executemany("INSERT INTO cut VALUES (?, ?)", list(cut.items()))
        connection.execute(
            f"CREATE OR REPLACE TABLE moving AS SELECT DISTINCT {segment(out_time)} AS _segment "
            'FROM result JOIN cut USING (_partition) WHERE _offset >= "end"'
        )
    tables = {
        "events": "SELECT * FROM parsed WHERE _kept AND NOT _late",
        "pairs": 'SELECT p.*, _closed AND _kept AND coalesce(_offset < h."end", FALSE) AS _replayed '
        f"FROM (SELECT *, {segment('_time')} AS _segment, {closed('_time')} AS _closed "
        f"FROM ({pairs}) WHERE {in_range('_time')}) p LEFT JOIN healing h USING (_segment, _partition)",
        "expected": compared(f"({oracle.result_query(pipeline)})", time),
        "result_in_range": f"SELECT * FROM placed WHERE {closed(out_time)} AND {in_range(out_time)}",
        "result_left": "SELECT * FROM result_in_range WHERE NOT _replaced",
        "replaced": "SELECT * FROM result_in_range WHERE _replaced",
        "served_rows": compared("served", time),
    }
    for name, query in tables.items():
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS {query}")
    expect(connection, pipeline, compared("{}", time))
    for name, rows in (("result_rows", "result_left"), ("replaced_rows", "replaced")):
        windowed = isinstance(transform, Aggregate)
        query = f"SELECT * FROM {rows}" if windowed else oracle.result_query(pipeline, events=rows)
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")
    counted = "sum(_rows)" if isinstance(transform, Aggregate) else "count(*)"
    connection.execute(
        f"CREATE OR REPLACE VIEW counted AS SELECT _segment, {counted} AS n, "
        f"{counted} FILTER (_replaced) AS replaced FROM result_in_range GROUP BY _segment"
    )


def _segments(connection: duckdb.DuckDBPyConnection, differing: Mapping[int, int]) -> list[Segment]:
    rows = connection.execute(
        """
        WITH log_side AS (
          SELECT _segment, count(*) AS read,
            count(*) FILTER (NOT _kept) AS filtered,
            count(*) FILTER (_kept AND _late) AS late,
            count(*) FILTER (_kept AND NOT _late AND NOT _closed) AS open,
            count(*) FILTER (_replayed AND _late AND NOT _early) AS healed,
            count(*) FILTER (_replayed AND NOT _late) AS replayed
          FROM pairs GROUP BY _segment),
        druid_side AS (SELECT _segment, sum(_rows) AS n FROM served_rows GROUP BY _segment)
        SELECT _segment, read, filtered, late, open, counted.n, druid_side.n, healed,
          coalesce(replayed, 0) - coalesce(counted.replaced, 0)
        FROM log_side FULL JOIN counted USING (_segment) FULL JOIN druid_side USING (_segment) ORDER BY _segment
        """
    ).fetchall()
    return [
        Segment(utc(start), *(int(value or 0) for value in (*values, differing.get(start)))) for start, *values in rows
    ]
