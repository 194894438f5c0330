"""Vital signs for a terminal, and as JSON.  Pure; each figure with its unit, what deserves attention in colour."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from penstock.vitals.model import (
    Level,
    Vitals,
    attention,
    checkpoint_level,
    partition_level,
    task_level,
    watermark,
)

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_STYLES: dict[Level, str] = {"": "", "warning": "yellow", "bad": "bold red"}


def to_json(vitals: Vitals) -> dict[str, Any]:
    """Return all of it as data, with what deserves attention."""
    notes = [{"level": level, "text": text} for level, text in attention(vitals)]
    lags = [item.lag for item in vitals.partitions]
    partitions = [asdict(item) | {"lag": lag} for item, lag in zip(vitals.partitions, lags, strict=True)]
    return asdict(vitals) | {"partitions": partitions, "watermark": watermark(vitals), "attention": notes}


def render(vitals: Vitals) -> Group:
    """Return the page: verdict, partitions, tasks, figures, runs."""
    from rich.console import Group
    from rich.text import Text

    notes = attention(vitals)
    worst: Level = notes[0][0] if notes else ""
    lines: list[Any] = [Text(_headline(vitals), style=_STYLES[worst] or "bold green")]
    lines += [Text(f"  {text}", style=_STYLES[level]) for level, text in notes]
    if vitals.partitions:
        lines += [Text(), _partition_table(vitals)]
    if vitals.job and vitals.job.tasks:
        lines += [Text(), _task_table(vitals)]
    lines += [Text(), _figures(vitals)]
    if vitals.runs:
        lines += [Text(), _run_table(vitals)]
    return Group(*lines)


def _headline(vitals: Vitals) -> str:
    if vitals.job is None:
        return f"{vitals.pipeline}: {'stopped' if vitals.stopped else 'no job'}"
    job = vitals.job
    restored = f", restored {job.checkpoints.restored} times" if job.checkpoints.restored else ""
    return f"{vitals.pipeline}: {job.state} for {span(vitals.at - job.started)}{restored}  (job {job.id})"


def _partition_table(vitals: Vitals) -> Table:
    table = _table("source partition", "watermark (UTC)", "age", "read up to", "last stable offset", "lag")
    for item in vitals.partitions:
        mark = instant(item.watermark) if item.watermark is not None else "" if item.idle else "none yet"
        mark = f"{mark} idle".strip() if item.idle else mark
        age = span(vitals.at - item.watermark) if item.watermark is not None else "-"
        lag = "?" if item.lag is None else f"{item.lag:,} records"
        position = "?" if item.position is None else f"{item.position:,}"
        style = _STYLES[partition_level(vitals, item)]
        table.add_row(str(item.partition), mark, age, position, f"{item.end:,}", lag, style=style)
    return table


def _task_table(vitals: Vitals) -> Table:
    assert vitals.job is not None
    table = _table("task", "busy", "backpressured")
    for task in vitals.job.tasks:
        table.add_row(task.name, _share(task.busy), _share(task.backpressured), style=_STYLES[task_level(task)])
    return table


def _figures(vitals: Vitals) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for title, text, level in [*_of_job(vitals), *_of_druid(vitals)]:
        table.add_row(Text(title, style="bold"), Text(text, style=_STYLES[level]))
    return table


def _of_job(vitals: Vitals) -> list[tuple[str, str, Level]]:
    if vitals.job is None:
        return []
    found, done = vitals.job.records, vitals.job.checkpoints
    dropped = f", {found.dropped:,} dropped by a window" if found.dropped else ""
    counts = (
        f"{found.read:,} in ({found.per_second:,.0f}/s), {found.out:,} out, {found.late:,} late, "
        f"{found.dead_lettered:,} dead-lettered{dropped}; since the job's start"
    )
    kept = ", ".join(f"{topic} at most {span_:,}" for topic, span_ in vitals.kept.items())
    lost: Level = "bad" if found.dropped else "warning" if found.dead_lettered else ""
    if done.completed_at is None:
        newest = "none yet"
    else:
        age = span(vitals.at - done.completed_at)
        newest = f"{age} old, {size(done.size)}, took {span(done.duration)}"
    told = f"{newest}; {done.completed:,} completed, {done.failed:,} failed"
    apart: list[tuple[str, str, Level]] = [("kept apart", f"{kept} records", "")] if kept else []
    return [("records", counts, lost), *apart, ("checkpoint", told, checkpoint_level(vitals))]


def _of_druid(vitals: Vitals) -> list[tuple[str, str, Level]]:
    if vitals.served is None:
        return []
    found = vitals.served
    level: Level = "" if found.healthy else "bad"
    if found.newest is None or found.served_to is None:
        return [("Druid", f"{found.state}, no rows", level)]
    behind = (
        "no task reads"
        if found.behind is None
        else f"{found.behind:,} records of .out not read yet, as of 30 s ago at most"
    )
    lines: list[tuple[str, str, Level]] = [
        ("Druid", f"{found.state}, {found.rows:,} rows; {behind}", level),
        (
            "freshness",
            f"newest row {instant(found.newest)} UTC, {span(vitals.at - found.newest)} ago{_trail(vitals)}",
            "",
        ),
    ]
    return lines


def _trail(vitals: Vitals) -> str:
    """Say how much event time is final in the job and not yet in Druid."""
    mark = watermark(vitals)
    if mark is None or vitals.served is None or vitals.served.served_to is None:
        return ""
    return f"; served up to {span(max(0, mark - vitals.served.served_to))} of event time before the watermark"


def _run_table(vitals: Vitals) -> Table:
    table = _table("DAG", "run", "state", "began", "took")
    for run in vitals.runs:
        began = instant(run.started) if run.started is not None else "-"
        took = span((run.ended or vitals.at) - run.started) if run.started is not None else "-"
        table.add_row(run.dag, run.id, run.state, began, took, style="yellow" if run.state == "failed" else "")
    return table


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        numbers = title in ("age", "read up to", "last stable offset", "lag", "busy", "backpressured", "took")
        table.add_column(title, justify="right" if numbers else "left")
    return table


def _share(value: float | None) -> str:
    return "?" if value is None else f"{value:.0%}"


def instant(ms: int) -> str:
    """Write epoch ms as 2013-01-31 12:00:00."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(ms: float) -> str:
    """Write a duration in its two greatest units: 350 ms, 4.2 s, 3 min 20 s, 5 h 10 min, 12 d 3 h."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    for unit, length, lesser, least in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= length:
            whole, rest = divmod(int(seconds), length)
            return f"{whole:,} {unit}" + (f" {rest // least} {lesser}" if rest // least else "")
    return f"{seconds:.1f} s"


def size(count: int) -> str:
    """Write bytes in decimal units."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
