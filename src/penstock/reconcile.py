"""Reconcile figures with the log, in DuckDB.  No network: tables in, a ledger out.

Tables of the connection, filled by `penstock.ledger`:

- `log(partition, "offset", "timestamp", value)`: the source up to the cut;
- `rejected(branch, partition, "offset", reason)`: what is in the late and dead-letter topics, of the same range;
- `result`: the rows of `.out`, as `penstock.flink.sql.out_columns` has them;
- `served`: what Druid returns, as `penstock.oracle.result_query` has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from penstock import expr, oracle
from penstock.compare import differences, duplicates, identity, key_columns, utc, wrongly_rejected
from penstock.durations import millis
from penstock.pipeline import Aggregate, Pipeline
from penstock.segments import ceiling

#: How many differences are named one by one.
NAMED = 20


@dataclass(frozen=True)
class Segment:
    """One segment's account.  Counts are events, or, where windows overlap, (event, window) pairs.

    `healed` are those of the late ones that a replay has counted: they are in Druid, not in the result topic.
    """

    start: str
    read: int
    filtered: int
    late: int
    open: int
    counted: int
    druid: int
    healed: int = 0

    @property
    def shortfall(self) -> int:
        """Rows that were read and are nowhere (positive), or counted more than once (negative)."""
        return self.read - self.filtered - self.late - self.open - self.counted

    @property
    def equal(self) -> bool:
        return self.shortfall == 0 and self.druid == self.counted + self.healed

    def __str__(self) -> str:
        counts = f"{self.counted:,} counted, {self.filtered:,} filtered, {self.late:,} late, {self.open:,} open"
        counts += f", {self.healed:,} healed" if self.healed else ""
        return f"segment {self.start}: {self.read:,} read, {counts}; Druid has {self.druid:,}"


@dataclass(frozen=True)
class Healing:
    """A replay's publication: the windows that start in `[start, end)` (epoch ms) hold every record before `high`."""

    start: int
    end: int
    high: Mapping[int, int]


@dataclass(frozen=True)
class Ledger:
    """The account of one pipeline up to a cut.  `horizon`: windows ending at or before it (epoch ms) are compared."""

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
    _load_healings(connection, pipeline, healings)
    _prepare(connection, pipeline, cut, horizon, start, end)
    segments = _segments(connection)
    found = [
        *(str(segment) for segment in segments if not segment.equal),
        *duplicates(connection, "rejected", 'partition, "offset"', "sent to the late or dead-letter topic"),
        *wrongly_rejected(connection, pipeline),
        *duplicates(connection, "result_in_range", identity(pipeline), "in the result topic"),
        *duplicates(connection, "served_rows", ", ".join(map(expr.DUCKDB.name, key_columns(pipeline))), "in Druid"),
        *differences(connection, pipeline, "result_rows", "the result topic"),
        *differences(connection, pipeline, "served_rows", "Druid", expected="expected_served"),
    ]
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
        notes=[f"{moving} segments are being written to: they are left open"] if moving else [],
    )


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def _prepare(
    connection: duckdb.DuckDBPyConnection,
    pipeline: Pipeline,
    cut: dict[int, int],
    horizon: int | None,
    start: int | None,
    end: int | None,
) -> None:
    """Build `parsed`, `pairs` (one row an event and window), `expected`, `result_rows` and `served_rows`.

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

    def segment(column: str) -> str:
        return f"epoch_ms(date_trunc('{pipeline.sink.segment}', make_timestamp({column} * 1000)))"

    def closed(time: str) -> str:
        if isinstance(transform, Aggregate):
            return f"{time} + {millis(transform.window.size)} <= {horizon or 0}"
        return f"{segment(time)} NOT IN (SELECT _segment FROM moving)"

    def in_range(column: str) -> str:
        low = "TRUE" if start is None else f"{column} >= {start}"
        return low if end is None else f"{low} AND {column} < {end}"

    def compared(rows: str, time: str) -> str:
        return f"SELECT *, {segment(time)} AS _segment FROM {rows} WHERE {closed(time)} AND {in_range(time)}"

    if isinstance(transform, Aggregate):
        time = result_time = "window_start"
        windows = oracle.windows_query(pipeline, events="parsed")
        pairs = f"SELECT _window AS _time, _kept, _late, _early, _partition, _offset FROM ({windows})"
    else:
        time, result_time = "__time", f'"{topic.event_time}"'
        pairs = f"SELECT {result_time} AS _time, _kept, _late, _early, _partition, _offset FROM parsed"
        connection.execute('CREATE OR REPLACE TABLE cut (_partition INT, "end" BIGINT)')
        connection.executemany("INSERT INTO cut VALUES (?, ?)", list(cut.items()))
        connection.execute(
            f"CREATE OR REPLACE TABLE moving AS SELECT DISTINCT {segment(result_time)} AS _segment "
            'FROM result JOIN cut USING (_partition) WHERE _offset >= "end"'
        )
    tables = {
        "events": "SELECT * FROM parsed WHERE _kept AND NOT _late",
        "pairs": "SELECT p.*, _closed AND _kept AND _late AND NOT _early "
        'AND coalesce(_offset < h."end", FALSE) AS _healed '
        f"FROM (SELECT *, {segment('_time')} AS _segment, {closed('_time')} AS _closed "
        f"FROM ({pairs}) WHERE {in_range('_time')}) p LEFT JOIN healing h USING (_segment, _partition)",
        "expected": compared(f"({oracle.result_query(pipeline)})", time),
        "result_in_range": compared("result", result_time),
        "served_rows": compared("served", time),
    }
    for name, query in tables.items():
        connection.execute(f"CREATE OR REPLACE TABLE {name} AS {query}")
    healed = f"({oracle.result_query(pipeline, events='healed_events')})"
    _expect_served(connection, compared(healed, time))
    if isinstance(transform, Aggregate):
        connection.execute("CREATE OR REPLACE VIEW result_rows AS SELECT * FROM result_in_range")
    else:
        query = oracle.result_query(pipeline, events="result_in_range")
        connection.execute(f"CREATE OR REPLACE VIEW result_rows AS {query}")
    counted = "sum(_rows)" if isinstance(transform, Aggregate) else "count(*)"
    connection.execute(
        f"CREATE OR REPLACE VIEW counted AS SELECT _segment, {counted} AS n FROM result_in_range GROUP BY _segment"
    )


def _expect_served(connection: duckdb.DuckDBPyConnection, healed: str) -> None:
    """Build `expected_served`, what Druid must hold: `expected`, and in replayed segments what `healed` gives.

    `healed` is a query over `healed_events`.  A replay counts what lies before its cut, late or not; what came later is
    late, and waits for the next one.
    """
    connection.execute(
        "CREATE OR REPLACE TABLE expected_served AS SELECT * FROM expected "
        "WHERE _segment NOT IN (SELECT _segment FROM healing)"
    )
    for (number,) in connection.execute("SELECT DISTINCT healing FROM healing").fetchall():
        connection.execute(
            "CREATE OR REPLACE TABLE healed_events AS SELECT p.* FROM parsed p JOIN "
            f'(SELECT DISTINCT _partition, "end" FROM healing WHERE healing = {number}) h USING (_partition) '
            'WHERE _kept AND (NOT _late OR (NOT _early AND _offset < h."end"))'
        )
        covered = f"SELECT _segment FROM healing WHERE healing = {number}"
        connection.execute(f"INSERT INTO expected_served SELECT * FROM ({healed}) WHERE _segment IN ({covered})")


def _load_healings(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, healings: Sequence[Healing]) -> None:
    """Fill `healing`: for each segment that was replayed, the newest replay and where it was cut."""
    newest: dict[int, int] = {}
    for number, healing in enumerate(healings):
        at = healing.start
        while at < healing.end:
            newest[at] = number
            at = ceiling(at + 1, pipeline.sink.segment)
    connection.execute('CREATE OR REPLACE TABLE healing (_segment BIGINT, healing INT, _partition INT, "end" BIGINT)')
    rows = [
        (at, number, partition, high)
        for at, number in newest.items()
        for partition, high in healings[number].high.items()
    ]
    if rows:
        connection.executemany("INSERT INTO healing VALUES (?, ?, ?, ?)", rows)


def _segments(connection: duckdb.DuckDBPyConnection) -> list[Segment]:
    rows = connection.execute(
        """
        WITH log_side AS (
          SELECT _segment, count(*) AS read,
            count(*) FILTER (NOT _kept) AS filtered,
            count(*) FILTER (_kept AND _late) AS late,
            count(*) FILTER (_kept AND NOT _late AND NOT _closed) AS open,
            count(*) FILTER (_healed) AS healed
          FROM pairs GROUP BY _segment),
        druid_side AS (SELECT _segment, sum(_rows) AS n FROM served_rows GROUP BY _segment)
        SELECT _segment, read, filtered, late, open, counted.n, druid_side.n, healed
        FROM log_side FULL JOIN counted USING (_segment) FULL JOIN druid_side USING (_segment) ORDER BY _segment
        """
    ).fetchall()
    return [Segment(utc(start), *(int(value or 0) for value in values)) for start, *values in rows]
