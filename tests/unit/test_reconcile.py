"""The ledger over small tables: what closes, and what must not."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

from penstock import Aggregate, Datasource, Field, Hop, Pipeline, Select, Topic, Tumble, oracle
from penstock.compare import served_columns
from penstock.flink.sql import out_columns
from penstock.pipeline import DUCKDB_TYPES, Window
from penstock.reconcile import Ledger, reconcile

MINUTE = 60_000
TOPIC = Topic(
    "shop.sold.v1",
    fields=[Field("id", "string"), Field("value", "long", nullable=True), Field("at", "timestamp_ms")],
    event_time="at",
)

MINUTES = Tumble("1 min")


def windowed(window: Window = MINUTES, where: str | None = None) -> Pipeline:
    transform = Aggregate(window=window, by=["id"], measures={"total": "SUM(value)"}, where=where)
    return Pipeline("sales", TOPIC, transform, Datasource(dimensions=["id"], segment="hour"))


SELECTED = Pipeline(
    "sales_raw",
    TOPIC,
    Select(),
    Datasource(dimensions=["id"], measures={"total": "SUM(value)"}, granularity="1 min", segment="hour"),
)

#: (partition, offset, at, id, value); the last one is broken.
EVENTS = [
    (0, 0, 1_000, "a", 1),
    (0, 1, 2_000, "a", 2),
    (1, 0, 3_000, "b", None),
    (1, 1, 61_000, "a", 8),
    (0, 2, 5_000, "a", 100),  # late
    (0, 3, 3_700_000, "b", 7),
]


class Tables:
    """The tables of a run in which everything went well, to be spoilt by a test."""

    def __init__(self, pipeline: Pipeline, horizon: int = 3_600_000) -> None:
        self.pipeline, self.horizon = pipeline, horizon
        self.connection = duckdb.connect()
        execute = self.connection.execute
        execute('CREATE TABLE log (partition INT, "offset" BIGINT, "timestamp" BIGINT, value BLOB)')
        for partition, offset, at, name, value in EVENTS:
            text = json.dumps({"id": name, "value": value, "at": at})
            execute("INSERT INTO log VALUES (?, ?, 9000000, ?)", [partition, offset, text.encode()])
        execute("INSERT INTO log VALUES (2, 0, 9000000, ?)", [b"\xff{"])
        execute('CREATE TABLE rejected (branch VARCHAR, partition INT, "offset" BIGINT, reason VARCHAR)')
        execute("INSERT INTO rejected VALUES ('dlq', 2, 0, 'invalid UTF-8')")
        windows = isinstance(pipeline.transform, Aggregate)
        if windows:
            execute("INSERT INTO rejected VALUES ('late', 0, 2, 'late')")
        execute('CREATE TABLE good AS SELECT * FROM log ANTI JOIN rejected USING (partition, "offset")')
        execute(f"CREATE TABLE events AS {oracle.events_query(TOPIC, pipeline.transform.where, log='good')}")
        self.fill("served", served_columns(pipeline), oracle.result_query(pipeline))
        columns = {name: DUCKDB_TYPES[kind] for name, kind in out_columns(TOPIC, pipeline.transform).items()}
        query = oracle.result_query(pipeline) if windows else 'SELECT id, value, "at", _partition, _offset FROM events'
        self.fill("result", columns, query)
        # Each row at an offset of its own in partition 0, in the order of its time.
        time = "window_start" if windows else '"at"'
        execute("ALTER TABLE result ADD COLUMN _out_partition INT DEFAULT 0")
        execute("ALTER TABLE result ADD COLUMN _out_offset BIGINT")
        execute(
            f"UPDATE result SET _out_offset = n FROM (SELECT rowid AS r, row_number() OVER (ORDER BY {time}, id, rowid)"
            " - 1 AS n FROM result) WHERE rowid = r"
        )
        if windows:
            execute(f"DELETE FROM result WHERE window_end > {horizon}")

    def fill(self, table: str, columns: dict[str, str], query: str) -> None:
        listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        names = ", ".join(f'"{name}"' for name in columns)
        self.connection.execute(f"CREATE TABLE {table} ({listed})")
        self.connection.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM ({query})")

    def spoil(self, statement: str) -> Tables:
        self.connection.execute(statement)
        return self

    def ledger(self, **bounds: Any) -> Ledger:
        return reconcile(self.connection, self.pipeline, cut={0: 4, 1: 2, 2: 1}, horizon=self.horizon, **bounds)


def test_a_good_run_closes_and_counts_each_fate() -> None:
    ledger = Tables(windowed()).ledger()
    assert ledger.equal, ledger
    assert (ledger.read, ledger.dead_lettered, ledger.late, ledger.on_time) == (7, 1, 1, 5)
    assert (ledger.windows_compared, ledger.rows_compared, ledger.windows_open) == (2, 3, 1)
    first, second = ledger.segments
    assert (first.start, first.read, first.late, first.counted, first.druid) == ("1970-01-01T00:00:00Z", 5, 1, 4, 4)
    assert (second.read, second.open, second.counted) == (1, 1, 0)


def test_the_figures_are_right_and_not_only_alike() -> None:
    tables = Tables(windowed())
    tables.ledger()
    rows = tables.connection.execute("SELECT window_start, id, total, _rows FROM expected ORDER BY ALL").fetchall()
    assert rows == [(0, "a", 3, 2), (0, "b", None, 1), (MINUTE, "a", 8, 1)]


def test_hops_count_each_event_once_a_window_and_reach_back_before_the_epoch() -> None:
    tables = Tables(windowed(Hop(size="2 min", slide="1 min")))
    ledger = tables.ledger()
    assert ledger.equal, ledger
    rows = tables.connection.execute("SELECT window_start, id, total FROM expected ORDER BY ALL").fetchall()
    assert rows == [(-MINUTE, "a", 3), (-MINUTE, "b", None), (0, "a", 11), (0, "b", None), (MINUTE, "a", 8)]
    assert sum(segment.read for segment in ledger.segments) == 2 * 6


def test_a_filter_s_rows_are_accounted_for() -> None:
    ledger = Tables(windowed(where="value > 1")).ledger()
    assert ledger.equal, ledger
    assert ledger.filtered == 2  # 1, and NULL


def test_a_select_is_compared_with_its_roll_up() -> None:
    tables = Tables(SELECTED)
    assert tables.ledger().equal
    rows = tables.connection.execute("SELECT __time, id, total, _rows FROM expected ORDER BY ALL").fetchall()
    assert rows == [(0, "a", 103, 3), (0, "b", None, 1), (MINUTE, "a", 8, 1), (3_660_000, "b", 7, 1)]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("DELETE FROM result WHERE id = 'b'", "missing in the result topic"),
        ("INSERT INTO result SELECT * FROM result WHERE id = 'b'", "2 times in the result topic"),
        ("UPDATE result SET total = 4 WHERE total = 3", "total 4 instead of 3"),
        ("UPDATE result SET _rows = 1, total = 1 WHERE total = 3", "_rows 1 instead of 2"),
        ("DELETE FROM served WHERE id = 'b' AND window_start = 0", "missing in Druid"),
        ("UPDATE served SET total = NULL WHERE total = 8", "Druid has total None instead of 8"),
        ("INSERT INTO served VALUES (120000, 180000, 'z', 1, 1)", "in Druid as"),
        ("INSERT INTO served SELECT * FROM served WHERE total = 8", "id=a: 2 times in Druid"),
        (
            "INSERT INTO served SELECT * FROM served WHERE total = 8",
            "4 counted, 0 filtered, 1 late, 0 open; Druid has 5",
        ),
        ("DELETE FROM rejected WHERE branch = 'late'", "_rows 2 instead of 3"),
        ("INSERT INTO rejected VALUES ('dlq', 2, 0, 'again')", "2 times sent to the late or dead-letter topic"),
        ("INSERT INTO rejected VALUES ('late', 0, 1, 'late')", "_rows 2 instead of 1"),
        ("INSERT INTO rejected VALUES ('late', 0, 9, 'late')", "partition=0, offset=9: in the late topic, but not in"),
        ("UPDATE rejected SET reason = 'too early' WHERE branch = 'late'", "sent as too early, against its dates"),
        ("""UPDATE log SET "timestamp" = -9999999 WHERE "offset" = 1""", "not sent as too early, against its dates"),
    ],
)
def test_damage_is_named(damage: str, words: str) -> None:
    ledger = Tables(windowed()).spoil(damage).ledger()
    assert not ledger.equal
    assert any(words in line for line in ledger.differences), ledger.differences


def test_a_lost_row_of_a_select_is_named_by_offset() -> None:
    raw = Pipeline("sales_raw", TOPIC, Select(), Datasource())
    ledger = Tables(raw).spoil("DELETE FROM served WHERE _partition = 1 AND _offset = 1").ledger()
    assert any("_partition=1, _offset=1" in line for line in ledger.differences), ledger.differences


def test_a_segment_that_records_past_the_cut_have_reached_is_left_open() -> None:
    raw = Pipeline("sales_raw", TOPIC, Select(), Datasource(segment="hour"))
    tables = Tables(raw)
    for table, columns in (
        ("result", 'id, value, "at", _partition, _offset'),
        ("served", "__time, id, value, _partition, _offset, _rows"),
    ):
        row = "('c', 5, 4000, 0, 4)" if table == "result" else "(4000, 'c', 5, 0, 4, 1)"
        tables.spoil(f"INSERT INTO {table} ({columns}) VALUES {row}")
    ledger = tables.ledger()
    assert ledger.equal, ledger.differences
    assert [(segment.open, segment.counted, segment.druid) for segment in ledger.segments] == [(5, 0, 0), (0, 1, 1)]


def test_a_range_leaves_the_rest_alone() -> None:
    damaged = "DELETE FROM result WHERE window_start = 0"
    assert not Tables(windowed()).spoil(damaged).ledger(start=0, end=MINUTE).equal
    assert Tables(windowed()).spoil(damaged).ledger(start=MINUTE, end=3_600_000).equal


def test_open_windows_are_not_compared() -> None:
    assert Tables(windowed(), horizon=MINUTE).ledger().windows_compared == 1
