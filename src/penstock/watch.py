"""A live table of a pipeline's newest figures, read from Druid.

    rows = sql(newest_query) -> sql(rows_query) -> render -> the terminal

Queries and tables are pure functions of the declaration; only `watch` does anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock import expr
from penstock.druid import merged_columns
from penstock.durations import format_duration, millis
from penstock.errors import UnavailableError
from penstock.pipeline import Aggregate, Pipeline

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

Sql = Callable[[str], list[dict[str, Any]]]

#: How many windows back the sparkline goes, and how many rows a table has.
TREND = 12
ROWS = 20
#: A Select has no windows: its table is of the last day of event time.
SPAN_MS = 86_400_000
_MOST = 10_000
_BARS = "▁▂▃▄▅▆▇█"


def newest_query(pipeline: Pipeline) -> str:
    """Return the query for the newest `__time`, epoch ms, as `newest`."""
    return f'SELECT TIMESTAMP_TO_MILLIS(MAX(__time)) AS "newest" FROM {_quote(pipeline.name)}'


def rows_query(pipeline: Pipeline, newest: int) -> str:
    """Return the query for the table's rows, given the newest `__time` (epoch ms).

    Aggregate: the newest window and those before it that don't overlap it, each with `window_start` and `window_end`
    (epoch ms).  Windows of one pick only, never summed: sliding windows share rows.  Select: totals by dimension.
    """
    transform = pipeline.transform
    if not isinstance(transform, Aggregate):
        return _totals_query(pipeline, newest)
    size = millis(transform.window.size)
    columns = [*transform.by, *transform.measures, "_rows"]
    start = 'TIMESTAMP_TO_MILLIS(__time) AS "window_start", "window_end"'
    return (
        f"SELECT {start}, {', '.join(map(_quote, columns))} FROM {_quote(pipeline.name)} "
        f"WHERE __time > MILLIS_TO_TIMESTAMP({newest - TREND * size}) "
        f"AND MOD({newest} - TIMESTAMP_TO_MILLIS(__time), {size}) = 0 ORDER BY __time DESC LIMIT {_MOST}"
    )


def _totals_query(pipeline: Pipeline, newest: int) -> str:
    dimensions = [_quote(name) for name in pipeline.sink.dimensions]
    columns = [*dimensions, *merged_columns(pipeline), 'TIMESTAMP_TO_MILLIS(MAX(__time)) AS "newest"']
    group = f"GROUP BY {', '.join(dimensions)} " if dimensions else ""
    return (
        f"SELECT {', '.join(columns)} FROM {_quote(pipeline.name)} "
        f'WHERE __time > MILLIS_TO_TIMESTAMP({newest - SPAN_MS}) {group}ORDER BY "_rows" DESC LIMIT {ROWS}'
    )


def _quote(name: str) -> str:
    return f'"{name}"'


def render(pipeline: Pipeline, rows: Sequence[Mapping[str, Any]], note: str = "") -> Table:
    """Return the table of what `rows_query` found; `note` is added to its caption."""
    from rich.table import Table

    aggregate = isinstance(pipeline.transform, Aggregate)
    time_column = "window_start" if aggregate else "newest"
    newest = max((row[time_column] for row in rows), default=0)
    current = [row for row in rows if row[time_column] == newest] if aggregate else list(rows)
    keys = list(pipeline.transform.by if isinstance(pipeline.transform, Aggregate) else pipeline.sink.dimensions)
    shown = sorted(current, key=lambda row: -(row["_rows"] or 0))[:ROWS]
    shown.sort(key=lambda row: [str(row[key]) for key in keys])
    figures = _figures(pipeline)
    table = Table(title=pipeline.name, caption=_caption(pipeline, current, len(shown), note), caption_justify="left")
    for key in keys:
        table.add_column(key)
    for name in figures:
        table.add_column(name.replace("_", " "), justify="right")  # spaces let a narrow terminal break the heading
    size = millis(pipeline.transform.window.size) if isinstance(pipeline.transform, Aggregate) else 0
    if size:
        table.add_column(f"rows, last {TREND} x {format_duration(timedelta(milliseconds=size))}", no_wrap=True)
    for row in shown:
        cells = [str(row[key]) for key in keys] + [_cell(figure(row)) for figure in figures.values()]
        table.add_row(*cells, *([_trend(row, rows, keys, newest, size)] if size else []))
    return table


Figure = Callable[[Mapping[str, Any]], Any]


def _figures(pipeline: Pipeline) -> dict[str, Figure]:
    """Return the columns of numbers by heading: every measure, and after a SUM of a field its mean over the rows."""
    transform = pipeline.transform
    measures = dict(transform.measures if isinstance(transform, Aggregate) else pipeline.sink.measures)
    figures: dict[str, Figure] = {}
    if "COUNT(*)" not in [text.replace(" ", "").upper() for text in measures.values()]:
        figures["rows"] = lambda row: row["_rows"]
    for name, text in measures.items():
        figures[name] = lambda row, name=name: row[name]  # type: ignore[misc]
        simple = expr.simple_aggregate(text)
        if simple is not None and simple[0] == "SUM":
            figures[f"{simple[1]} per row"] = lambda row, name=name: _ratio(row[name], row["_rows"])  # type: ignore[misc]
    return figures


def _ratio(total: Any, rows: Any) -> float | None:
    return None if total is None or not rows else total / rows


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _trend(
    row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], keys: Sequence[str], newest: int, size: int
) -> str:
    """Draw the counts of one key's windows, oldest first; a window without rows is a blank."""
    mine = [row[key] for key in keys]
    counts = {it["window_start"]: it["_rows"] or 0 for it in rows if [it[key] for key in keys] == mine}
    series = [counts.get(newest - back * size, 0) for back in reversed(range(TREND))]
    top = max(series)
    return "".join(_BARS[(count * len(_BARS) - 1) // top] if count else " " for count in series)


def _caption(pipeline: Pipeline, current: Sequence[Mapping[str, Any]], shown: int, note: str) -> str:
    if not current:
        return note or "no rows"
    if isinstance(pipeline.transform, Aggregate):
        start, end = current[0]["window_start"], current[0]["window_end"]
        parts = [f"newest closed window: {_utc(start)} to {_utc(end)} UTC"]
        if shown < len(current):
            parts.append(f"the {shown} largest of {len(current):,}")
    else:
        parts = [f"one day of event time, up to {_utc(max(row['newest'] for row in current))} UTC"]
    return "; ".join([*parts, note] if note else parts)


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00")


class Poll:
    """One look at Druid a call; remembers when the figures last changed."""

    def __init__(self, pipeline: Pipeline, sql: Sql, clock: Callable[[], float] = time.monotonic) -> None:
        self._pipeline, self._sql, self._clock = pipeline, sql, clock
        self._rows: list[dict[str, Any]] = []
        self._changed = clock()

    def __call__(self) -> Table:
        """Return the table; where Druid does not answer, or has no rows yet, the last one with the reason."""
        began = self._clock()
        try:
            rows = self._query()
        except UnavailableError as error:
            return render(self._pipeline, self._rows, f"waiting: {error.message}")
        now = self._clock()
        if rows != self._rows:
            self._rows, self._changed = rows, now
        if not rows:
            return render(self._pipeline, rows, "waiting for the first rows")
        note = f"changed {now - self._changed:.0f} s ago; asked in {(now - began) * 1000:.0f} ms"
        return render(self._pipeline, rows, note)

    def _query(self) -> list[dict[str, Any]]:
        found = self._sql(newest_query(self._pipeline))
        newest = found[0]["newest"] if found else None
        return [] if newest is None else self._sql(rows_query(self._pipeline, int(newest)))


def watch(
    pipeline: Pipeline,
    sql: Sql,
    interval: float = 1.0,
    until: Callable[[], bool] = lambda: False,
    *,
    console: Console | None = None,
    plain_interval: float = 10.0,
) -> None:
    """Show the table every `interval` seconds until `until()` is true (then once more) or Ctrl-C.

    Where the console is no terminal, the table is printed every `plain_interval` seconds instead.
    """
    from rich.console import Console
    from rich.live import Live

    console = console or Console()
    poll = Poll(pipeline, sql)
    try:
        if console.is_terminal:
            with Live(poll(), console=console, auto_refresh=False, vertical_overflow="crop") as live:
                _every(interval, until, lambda: live.update(poll(), refresh=True))
        else:
            console.print(poll())
            _every(plain_interval, until, lambda: console.print(poll()))
    except KeyboardInterrupt:
        return


def _every(interval: float, until: Callable[[], bool], show: Callable[[], None]) -> None:
    """Call `show` every `interval` seconds, and at once and for the last time when `until()` has become true."""
    while not until():
        due = time.monotonic() + interval
        while not until() and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
        show()
