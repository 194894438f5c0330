"""The live table: its queries, what it draws, and how it bears a Druid that does not answer."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from penstock.errors import PenstockError, UnavailableError
from penstock.load import load_pipelines
from penstock.pipeline import Datasource, Pipeline, Select
from penstock.watch import Poll, newest_query, render, rows_query, watch

PIPELINES = {item.name: item for item in load_pipelines(Path(__file__).parents[2] / "jobs")}
DELAYS, RAW = PIPELINES["airport_delays"], PIPELINES["flights_raw"]
HOUR = 3_600_000
NOON = 1_357_041_600_000  # 2013-01-01T12:00Z


def window(origin: str, back: int, flights: int, delay: int | None = 10) -> dict[str, Any]:
    start = NOON - back * HOUR
    return {
        "window_start": start,
        "window_end": start + HOUR,
        "origin": origin,
        "flights": flights,
        "delay_min_sum": delay,
        "delay_min_max": delay,
        "_rows": flights,
    }


def cells(table: Table) -> list[list[str]]:
    columns = [list(column.cells) for column in table.columns]
    return [[str(cell) for cell in row] for row in zip(*columns, strict=True)]


def text(table: Table) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_windows_of_one_pick_are_asked_for() -> None:
    assert newest_query(DELAYS) == 'SELECT TIMESTAMP_TO_MILLIS(MAX(__time)) AS "newest" FROM "airport_delays"'
    assert rows_query(DELAYS, NOON) == (
        'SELECT TIMESTAMP_TO_MILLIS(__time) AS "window_start", "window_end", '
        '"origin", "flights", "delay_min_sum", "delay_min_max", "_rows" FROM "airport_delays" '
        f"WHERE __time > MILLIS_TO_TIMESTAMP({NOON - 12 * HOUR}) "
        f"AND MOD({NOON} - TIMESTAMP_TO_MILLIS(__time), {HOUR}) = 0 ORDER BY __time DESC LIMIT 10000"
    )


def test_a_select_is_totalled_by_dimension() -> None:
    assert rows_query(RAW, NOON) == (
        'SELECT "origin", "carrier", SUM("_rows") AS "_rows", SUM("delay_min_sum") AS "delay_min_sum", '
        'MAX("delay_min_max") AS "delay_min_max", SUM("distance_mi_sum") AS "distance_mi_sum", '
        'TIMESTAMP_TO_MILLIS(MAX(__time)) AS "newest" FROM "flights_raw" '
        f"WHERE __time > MILLIS_TO_TIMESTAMP({NOON - 24 * HOUR}) "
        'GROUP BY "origin", "carrier" ORDER BY "_rows" DESC LIMIT 20'
    )
    plain = Pipeline("all", RAW.source, Select(), Datasource(dimensions=[]))
    assert "GROUP BY" not in rows_query(plain, NOON)


def test_every_shipped_pipeline_can_be_watched() -> None:
    for pipeline in PIPELINES.values():
        assert f'"{pipeline.name}"' in rows_query(pipeline, NOON)
        assert render(pipeline, []).row_count == 0


def test_the_newest_window_of_each_key() -> None:
    rows = [window("LGA", 0, 1200, 25_200), window("EWR", 0, 2, None), window("EWR", 1, 8), window("JFK", 3, 99)]
    table = render(DELAYS, rows)
    heads = [str(column.header) for column in table.columns]
    assert heads == [
        "origin",
        "flights",
        "delay min sum",
        "delay min per row",
        "delay min max",
        "rows, last 12 x 1 h",
    ]
    assert [row[:5] for row in cells(table)] == [
        ["EWR", "2", "-", "-", "-"],
        ["LGA", "1,200", "25,200", "21.0", "25,200"],
    ]
    assert "newest closed window: 2013-01-01 12:00 to 2013-01-01 13:00 UTC" in str(table.caption)


def test_the_trend_is_drawn_oldest_first_with_blanks_for_gaps() -> None:
    rows = [window("EWR", 0, 8), window("EWR", 1, 4), window("EWR", 3, 1), window("LGA", 2, 80)]
    (row,) = cells(render(DELAYS, rows))
    assert row[-1] == " " * 8 + "▁ ▄█"


def test_too_many_keys_show_the_largest() -> None:
    rows = [window(f"A{number:03}", 0, number + 1) for number in range(50)]
    table = render(DELAYS, rows)
    assert [row[0] for row in cells(table)] == [f"A{number:03}" for number in range(30, 50)]
    assert "the 20 largest of 50" in str(table.caption)


def test_totals_of_a_select() -> None:
    row = {
        "origin": "EWR",
        "carrier": "UA",
        "_rows": 4,
        "delay_min_sum": 10,
        "delay_min_max": 9,
        "distance_mi_sum": 800,
    }
    table = render(RAW, [{**row, "newest": NOON}, {**row, "carrier": "AA", "newest": NOON - HOUR}])
    assert cells(table)[0] == ["EWR", "AA", "4", "10", "2.5", "9", "800", "200.0"]
    assert "one day of event time, up to 2013-01-01 12:00 UTC" in str(table.caption)


class Druid:
    """Answers the two queries from `rows`, or raises."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.failure: PenstockError | None = None
        self.asked = 0

    def sql(self, query: str) -> list[dict[str, Any]]:
        self.asked += 1
        if self.failure:
            raise self.failure
        if "MAX(__time)" in query:
            return [{"newest": max((row["window_start"] for row in self.rows), default=None)}]
        return [dict(row) for row in self.rows]


def test_freshness_counts_from_the_last_change() -> None:
    druid, now = Druid(), 0.0
    poll = Poll(DELAYS, druid.sql, clock=lambda: now)
    assert "waiting for the first rows" in text(poll())
    druid.rows = [window("EWR", 0, 8)]
    now = 5.0
    assert "changed 0 s ago; asked in 0 ms" in text(poll())
    now = 8.0
    assert "changed 3 s ago" in text(poll())
    druid.rows = [window("EWR", 0, 9)]
    assert "changed 0 s ago" in text(poll())


def test_the_last_figures_stay_while_druid_is_away() -> None:
    druid = Druid()
    poll = Poll(DELAYS, druid.sql)
    druid.rows = [window("EWR", 0, 8)]
    poll()
    druid.failure = UnavailableError("Druid's broker does not answer")
    shown = poll()
    assert "EWR" in text(shown)
    assert "waiting: Druid's broker does not answer" in str(shown.caption)
    druid.failure = PenstockError("Druid refused the query")
    with pytest.raises(PenstockError, match="refused"):
        poll()


def test_without_a_terminal_the_table_is_printed_and_once_more_at_the_end() -> None:
    druid, out = Druid(), io.StringIO()
    druid.rows = [window("EWR", 0, 8)]
    watch(
        DELAYS,
        druid.sql,
        until=lambda: druid.asked >= 6,
        console=Console(file=out, width=150),
        plain_interval=0.01,
    )
    assert out.getvalue().count("EWR") == 3
    assert "\x1b" not in out.getvalue()


def test_in_a_terminal_it_is_drawn_in_place() -> None:
    druid, out = Druid(), io.StringIO()
    druid.rows = [window("EWR", 0, 8)]
    console = Console(file=out, width=150, force_terminal=True)
    watch(DELAYS, druid.sql, 0.01, until=lambda: druid.asked >= 6, console=console)
    assert out.getvalue().count("EWR") >= 3
    assert "\x1b[" in out.getvalue()


def test_ctrl_c_ends_it_quietly() -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt

    watch(DELAYS, Druid().sql, until=interrupted, console=Console(file=io.StringIO()))
