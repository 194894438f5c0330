"""How a replay is shown: its plan, its receipt, the history.  JSON is the record itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from penstock.compare import TOLERANCE
from penstock.replay.record import Count, Replay, Sum
from penstock.replay.scope import utc
from penstock.replay.steps import Plan, as_json, expected_seconds, words

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

#: Segments that are listed where none, or very many, have changed.
LISTED = 24


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON data."""
    scope = plan.scope
    return {
        "id": plan.replay.id,
        "pipeline": plan.replay.pipeline,
        "from": utc(scope.start),
        "to": utc(scope.end),
        "widened": scope.widened,
        "expected_seconds": round(expected_seconds(plan)),
        "steps": [as_json(step) for step in plan.steps],
        "refused": [{"reason": item.reason, "hint": item.hint} for item in plan.refused],
    }


def plan_text(plan: Plan) -> Group:
    """Return a plan for a terminal: the range, a line a step, what refuses it, how long it may take."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    replay, scope = plan.replay, plan.scope
    lines: list[Any] = [Text(f"replay {replay.pipeline}, {utc(scope.start)} to {utc(scope.end)}", style="bold")]
    if scope.widened:
        first, last = scope.asked
        lines.append(Text(f"widened from {utc(first)} to {utc(last)}: whole segments are replaced", style="yellow"))
    table = Table.grid(padding=(0, 1))
    for number, step in enumerate(plan.steps, start=1):
        table.add_row(Text(str(number), style="dim"), Text(step.kind, style="green"), Text(words(step)))
    lines += [table, *(Text(f"refused: {item.reason}\n  {item.hint}", style="red") for item in plan.refused)]
    kind = "dry run, nothing is published" if replay.asked.dry_run else f"id {replay.id}"
    lines.append(Text(f"{kind}; about {expected_seconds(plan):,.0f} s", style="dim"))
    return Group(*lines)


def differences(replay: Replay) -> list[tuple[int, Count, Count]]:
    """Return segment, count before and count computed, where they differ; in order."""
    before, computed = replay.figures.before, replay.figures.computed
    found = [(start, before.get(start, Count()), computed.get(start, Count())) for start in {*before, *computed}]
    return sorted((item for item in found if item[1] != item[2]), key=lambda item: item[0])


def verdict(replay: Replay) -> str:
    """Return what became of a replay, in one line."""
    changed = differences(replay)
    figures = replay.figures
    events = sum(count.events for count in figures.computed.values())
    more = events - sum(count.events for count in figures.before.values())
    segments = len({*figures.before, *figures.computed})
    change = f"{len(changed):,} of {segments:,} segments {{}}, {more:+,} events"
    match replay.status:
        case "done":
            return f"{replay.pipeline}: published and checked: {change.format('changed')}"
        case "dry":
            return f"{replay.pipeline}: dry run, nothing published: {change.format('would change')}"
        case "removed":
            return f"{replay.pipeline}: published; its rows were dropped with the pipeline since"
        case "abandoned":
            left = "published and not checked: replay the range again" if replay.task else "nothing published"
            return f"{replay.pipeline}: given up, {left}"
        case _:
            return f"{replay.pipeline}: not finished, after {replay.done[-1] if replay.done else 'nothing'}"


def changed_sums(replay: Replay) -> list[tuple[str, Sum]]:
    """Return each measure whose sum over the range is another, in order; sums of doubles may be apart a little."""

    def same(item: Sum) -> bool:
        if item.before is None or item.computed is None:
            return item.before is item.computed
        return math.isclose(item.before, item.computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)

    return [(name, item) for name, item in replay.figures.sums.items() if not same(item)]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.3f}"


def _sums_table(replay: Replay) -> Table | None:
    from rich.table import Table

    found = changed_sums(replay)
    if not found:
        return None
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("measure, summed over all rows", "before", "computed", "change"):
        table.add_column(title, justify="left" if title.startswith("measure") else "right")
    for name, item in found:
        change = "new" if item.before is None else _number((item.computed or 0) - item.before)
        table.add_row(name, _number(item.before), _number(item.computed), change)
    return table


def receipt(replay: Replay, *, everything: bool = False) -> Group:
    """Return a receipt for a terminal: verdict, segments that changed, why to trust it, how long each step took."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    figures, dry = replay.figures, replay.status == "dry"
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("segment", "rows before", "rows", "events before", "events", "change"):
        table.add_column(title, justify="left" if title == "segment" else "right")
    rows = differences(replay)
    if everything:
        starts = sorted({*figures.before, *figures.computed})
        rows = [(start, figures.before.get(start, Count()), figures.computed.get(start, Count())) for start in starts]
    for start, old, new in rows if everything else rows[:LISTED]:
        counts = (old.rows, new.rows, old.events, new.events)
        table.add_row(utc(start), *(f"{count:,}" for count in counts), f"{new.events - old.events:+,}")
    good = "bold green" if replay.status in ("done", "dry") else "bold yellow"
    lines: list[Any] = [Text(verdict(replay), style=good)]
    if table.row_count:
        lines.append(table)
    if len(rows) > table.row_count:
        lines.append(Text(f"... and {len(rows) - table.row_count:,} more (--json lists all)", style="dim"))
    sums = _sums_table(replay)
    lines += [sums] if sums else []
    lines += [Text(line, style="dim") for line in _grounds(replay)]
    if dry:
        lines.append(Text("asked for again, and not as a dry run, it is published"))
    return Group(*lines)


def _grounds(replay: Replay) -> Iterable[str]:
    cut, settled, figures = replay.cut, replay.settled, replay.figures
    yield f"id {replay.id}, version {replay.version}, by {replay.asked.by} at {replay.asked.at}"
    if cut is not None and cut.high:
        spans = ", ".join(f"{p}: {cut.low[p]:,} to {high:,}" for p, high in sorted(cut.high.items()))
        yield f"cut: {figures.read:,} records by partition and offset, {spans}"
    if settled is not None:
        kept = f"checkpoint {settled.checkpoint}" if settled.checkpoint is not None else "savepoint"
        yield f"{kept} {settled.path}" if settled.path else "no state was taken over"
    yield f"{figures.compared:,} rows recomputed from the log by DuckDB and equal"
    if replay.seconds:
        # As they were done: what was read from the record is in another order.
        yield ", ".join(f"{kind} {replay.seconds[kind]:.1f} s" for kind in replay.done if kind in replay.seconds)


def history(replays: Iterable[Replay]) -> Table:
    """Return replays as a table, newest last."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("id", "pipeline", "from", "to", "status", "change", "began", "by", "reason"):
        # An id is there to be copied: it is never cut short.
        table.add_column(title, justify="right" if title == "change" else "left", no_wrap=title == "id")
    for replay in replays:
        figures, asked = replay.figures, replay.asked
        known = bool(figures.computed)
        change = sum(it.events for it in figures.computed.values()) - sum(it.events for it in figures.before.values())
        last = f" after {replay.done[-1]}" if replay.status == "running" and replay.done else ""
        table.add_row(
            replay.id,
            replay.pipeline,
            utc(asked.wide_start),
            utc(asked.wide_end),
            replay.status + last,
            f"{change:+,} events" if known else "",
            asked.at,
            asked.by,
            asked.reason,
        )
    return table
