"""How dead letters are shown: groups, single ones, one in full, and what a redrive did.  JSON has all of it."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.compare import utc
from penstock.deadletters.letters import Group, Letter, written
from penstock.deadletters.markers import Redriven
from penstock.deadletters.mend import LEFT, SENT, Outcome
from penstock.deadletters.redrive import Redrive
from penstock.deadletters.text import line, printable, shown
from penstock.pipeline import Pipeline
from penstock.services.kafka import Record

if TYPE_CHECKING:
    from rich.console import Group as Lines
    from rich.table import Table

#: Letters of which a dry run shows before and after.
COMPARED = 10


def groups_json(pipeline: Pipeline, groups: Sequence[Group]) -> dict[str, Any]:
    """Return the counts as JSON data."""
    return {
        "pipeline": pipeline.name,
        "topic": pipeline.source.name,
        "letters": sum(group.letters for group in groups),
        "redriven": sum(group.redriven for group in groups),
        "reasons": [
            {
                "reason": group.kind,
                "letters": group.letters,
                "redriven": group.redriven,
                "first": utc(group.first),
                "last": utc(group.last),
                "example": written(group.example),
            }
            for group in groups
        ],
    }


def groups_text(groups: Sequence[Group]) -> Table:
    """Return the counts as a table."""
    table = _table("reason", "letters>", "redriven>", "first", "last", "example")
    for it in groups:
        example = written(it.example)
        table.add_row(it.kind, f"{it.letters:,}", f"{it.redriven:,}", utc(it.first), utc(it.last), example)
    return table


def letter_json(letter: Letter, redriven: Redriven | None) -> dict[str, Any]:
    """Return a letter as JSON data; bytes that are no text in base64."""
    return {
        "topic": letter.topic,
        "record": written(letter.place),
        "timestamp": letter.timestamp,
        "time": utc(letter.timestamp),
        "reason": letter.reason,
        "redriven": None if redriven is None else asdict(redriven),
        **_bytes("value", letter.value),
    }


def letters_text(letters: Iterable[tuple[Letter, Redriven | None]]) -> Table:
    """Return single letters as a table."""
    table = _table("record", "time", "bytes>", "redriven to", "reason")
    for letter, redriven in letters:
        size = "null" if letter.value is None else f"{len(letter.value):,}"
        to = written(redriven.place) if redriven else ""
        table.add_row(written(letter.place), utc(letter.timestamp), size, to, printable(letter.reason))
    return table


def show_json(letter: Letter, original: Record | None, redriven: Redriven | None) -> dict[str, Any]:
    """Return one letter in full, as JSON data."""
    kept = original is not None
    headers = [{"name": name, **_bytes("value", value)} for name, value in (original.headers if original else ())]
    key = _bytes("key", original.key if original else None)
    return letter_json(letter, redriven) | {"in_log": kept, "headers": headers, **key}


def show_text(pipeline: Pipeline, letter: Letter, original: Record | None, redriven: Redriven | None) -> str:
    """Return one letter in full, as text."""
    place = written(letter.place)
    gone = "not known: the log no longer has the record"
    rows = [
        ("dead letter", f"{place} of {letter.topic}, for {pipeline.name}"),
        ("reason", printable(letter.reason)),
        ("time", f"{utc(letter.timestamp)}, the record's timestamp"),
        ("key", line(original.key) if original else gone),
    ]
    rows += [("header", f"{printable(name)} = {line(value)}") for name, value in (original.headers if original else ())]
    rows.append(("redriven", _redriven(redriven) if redriven else "no"))
    what, value = shown(letter.value)
    rows.append(("value", what))
    return "".join(f"{name:<12} {text}\n" for name, text in rows) + (f"\n{value}\n" if value else "")


def _redriven(it: Redriven) -> str:
    fix = f" with {it.fix}" if it.fix else " as it was"
    return f"{it.at} to {written(it.place)}, by {it.by} for {it.pipeline}{fix}"


def redrive_json(done: Redrive) -> dict[str, Any]:
    """Return a redrive as JSON data."""
    return {
        "pipeline": done.pipeline,
        "topic": done.topic,
        "dry_run": done.dry_run,
        "counts": dict(done.counts),
        "before": len(done.before),
        "not_sent": [
            {"status": status, "why": why, "letters": count, "example": example}
            for status, why, count, example in done.told()
        ],
        "records": [_outcome_json(outcome, done.dry_run) for outcome in done.outcomes],
    }


def _outcome_json(it: Outcome, dry_run: bool) -> dict[str, Any]:
    values = {**_bytes("before", it.letter.value), **_bytes("after", it.value)} if dry_run else {}
    return {
        "record": written(it.letter.place),
        "reason": it.letter.reason,
        "status": it.status,
        "why": it.detail,
        "event_time": None if it.time is None else utc(it.time),
        "to": None if it.to is None else written(it.to),
        **values,
    }


def redrive_text(done: Redrive, others: Sequence[str] = ()) -> Lines:
    """Return a redrive for a terminal; `others` are the pipelines with windows that read the topic."""
    from rich.console import Group as Lines
    from rich.text import Text

    lines: list[Any] = []
    ready = [outcome for outcome in done.outcomes if outcome.status == SENT]
    for it in ready[:COMPARED] if done.dry_run else ():
        lines.append(Text(f"{written(it.letter.place)}  {printable(it.letter.reason)}", style="bold"))
        lines.append(Text(f"  - {line(it.letter.value)}", style="red"))
        lines.append(Text(f"  + {line(it.value)}", style="green"))
    if done.dry_run and len(ready) > COMPARED:
        lines.append(Text(f"... and {len(ready) - COMPARED:,} more (--json has all)", style="dim"))
    if told := done.told():
        table = _table("not sent", "letters>", "example", "why")
        for status, why, count, example in told:
            table.add_row(status, f"{count:,}", example, printable(why))
        lines.append(table)
    lines.append(Text(summary(done), style="bold"))
    if ready and others and not done.dry_run:
        repairs = ", ".join(f"`penstock repair {name}`" for name in others)
        lines.append(Text(f"those whose windows have fired are late, until they are replayed: {repairs}", style="dim"))
    return Lines(*lines)


def summary(done: Redrive) -> str:
    """Return what a redrive did, in one line."""
    total = len(done.outcomes) + len(done.before)
    if not total:
        return f"nothing to do: {done.pipeline} has no such dead letters"
    if not done.outcomes:
        letter, it = done.before[-1]
        example = f"{written(letter.place)} at {_redriven(it)}"
        return f"nothing to do: all {total:,} asked for were redriven already, the last of them {example}"
    times = sorted(it.time for it in done.outcomes if it.status == SENT and it.time is not None)
    span = f" (event times {utc(times[0])} to {utc(times[-1])})" if times else ""
    verb = "would go" if done.dry_run else "went"
    parts = [f"{done.counts[SENT]:,} of {total:,} dead letters {verb} back to {done.topic}{span}"]
    parts += [f"{done.counts[LEFT]:,} left dead"] if done.counts[LEFT] else []
    parts += [f"{done.held_back:,} held back"] if done.held_back else []
    parts += [f"{len(done.before):,} redriven before"] if done.before else []
    return ("dry run: " if done.dry_run else "") + "; ".join(parts)


def _table(*titles: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title.rstrip(">"), justify="right" if title.endswith(">") else "left", overflow="fold")
    return table


def _bytes(name: str, value: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if value is None else value.decode()}
    except UnicodeDecodeError:
        assert value is not None
        return {f"{name}_base64": base64.b64encode(value).decode()}
