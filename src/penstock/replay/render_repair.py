"""How a repair is shown: what there is to do, and what became of it; as text and as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.repair_policy import Due, RepairPolicy
from penstock.replay.mend import HEALED, OPEN, Report
from penstock.replay.record import Replay, to_json
from penstock.replay.repair import Repair
from penstock.replay.scope import utc

if TYPE_CHECKING:
    from rich.console import Group


def late_words(todo: Repair) -> str:
    """Say how many late events there are, and where they stand."""
    if not todo.late:
        return "no late events"
    ready = todo.late - todo.healed - todo.waiting
    words = f"{todo.late:,} late events: {todo.healed:,} healed"
    words += f", {ready:,} to heal" if ready else ""
    return words + (f", {todo.waiting:,} wait for open windows" if todo.waiting else "")


def plan_json(pipeline: str, todo: Repair, unfinished: Sequence[Replay]) -> dict[str, Any]:
    spans = [
        {"from": utc(it.start), "to": utc(it.end), "why": it.why, "state": OPEN if it.open else "ready"} | asdict(it)
        for it in todo.spans
    ]
    return _counts(pipeline, todo) | {"unfinished": [it.id for it in unfinished], "spans": spans, "receipts": []}


def report_json(report: Report) -> dict[str, Any]:
    spans = [{"from": utc(it.start), "to": utc(it.end)} | asdict(it) for it in report.outcomes]
    receipts = [to_json(it) for it in report.receipts]
    return _counts(report.pipeline, report.left) | {"spans": spans, "receipts": receipts}


def _counts(pipeline: str, todo: Repair) -> dict[str, Any]:
    return {"pipeline": pipeline} | {name: getattr(todo, name) for name in ("late", "healed", "waiting", "elsewhere")}


def plan_text(pipeline: str, todo: Repair, unfinished: Sequence[Replay]) -> Group:
    """Return what there is to repair: a line a span, and why."""
    rows = [
        (utc(it.asked.wide_start), utc(it.asked.wide_end), "begun before", f"to be finished: {it.id}", "")
        for it in unfinished
    ]
    rows += [
        (utc(it.start), utc(it.end), it.why, "windows still open: later" if it.open else "to be replayed", "")
        for it in todo.spans
    ]
    return _text(f"{pipeline}: {late_words(todo)}", rows, _elsewhere(todo))


def report_text(report: Report) -> Group:
    """Return what became of each span: healed, open and until when, or refused and why."""
    rows = [(utc(it.start), utc(it.end), it.why, it.state, it.detail or it.replay) for it in report.outcomes]
    healed = len(report.of(HEALED))
    done = f"{healed} span{'s' * (healed != 1)} healed now; " if report.outcomes else "nothing to repair; "
    return _text(f"{report.pipeline}: {done}{late_words(report.left)}", rows, _elsewhere(report.left))


def _elsewhere(todo: Repair) -> str:
    words = f"{todo.elsewhere:,} differences belong to no segment, so that no replay mends them: `penstock verify`"
    return words if todo.elsewhere else ""


def _text(title: str, rows: Sequence[tuple[str, ...]], note: str) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    lines: list[Any] = [Text(title, style="bold")]
    if rows:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("from", "to", "why", "state", ""):
            table.add_column(name)
        for row in rows:
            table.add_row(*row)
        lines.append(table)
    return Group(*lines, *([Text(note, style="red")] if note else []))


def due_json(pipeline: str, policy: RepairPolicy | str, due: Due) -> dict[str, Any]:
    at = None if due.at is None else utc(due.at)
    return {"pipeline": pipeline, "policy": str(policy), "due": due.now, "why": due.why, "at": at}


def due_text(pipeline: str, policy: RepairPolicy | str, due: Due) -> str:
    """Say in one line whether a pipeline is due, why, and when it will be."""
    at = f"; due at {utc(due.at - due.at % 1000)}" if due.at is not None else ""
    return f"{pipeline} ({policy}): {'due' if due.now else 'not due'}: {due.why}{at}"
