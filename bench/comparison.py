"""Kappa beside Lambda: what each took, what its readers saw, and how that is written.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench import lines
from bench.readers import Times
from penstock.errors import PenstockError

#: A row's events, then its measures, by day (epoch ms) and carrier.
Row = tuple[int, ...]
Rows = Mapping[tuple[int, str], Row]


@dataclass(frozen=True)
class Step:
    """What a person does, or waits for: `kind` is edit, command or wait."""

    kind: str
    what: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Equality:
    """Rows held against the oracle's: how many, how many are not the same; events not counted, or counted twice."""

    compared: int = 0
    differing: int = 0
    missing: int = 0
    excess: int = 0


@dataclass
class Told:
    """What one of the two took: files before and after by their names, what each command printed, seconds in all.

    `waited_days` is in the time of the events.
    """

    steps: list[Step] = field(default_factory=list)
    before: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    took: float = 0.0
    waited_days: float = 0.0
    times: Times = field(default_factory=lambda: Times(0, 0, 0))
    equality: Equality = field(default_factory=Equality)

    def of(self, kind: str) -> list[Step]:
        return [step for step in self.steps if step.kind == kind]


def held_against(there: Mapping[tuple[int, str], Sequence[Row]], want: Rows) -> Equality:
    """Compare what is served, all rows of each day and carrier, with what must be."""
    differing = missing = excess = 0
    for key in {*there, *want}:
        found, expected = there.get(key, []), want.get(key)
        events = sum(row[0] for row in found) - (expected[0] if expected else 0)
        differing += list(found) != [expected]
        missing += max(0, -events)
        excess += max(0, events)
    return Equality(len(want), differing, missing, excess)


def tidy(text: str) -> str:
    """Return what a command printed without the name of the machine it ran on."""
    return "\n".join(line.rstrip() for line in re.sub(r"by \S+@\S+", "by you@host", text).strip().splitlines())


# --- As Markdown.

_ROWS: Sequence[tuple[str, Callable[[Told], str]]] = (
    ("Lines of code of the job", lambda it: str(lines.total(it.before))),
    ("Lines changed", lambda it: str(lines.changed(it.before, it.after))),
    ("Edits", lambda it: str(len(it.of("edit")))),
    ("Commands", lambda it: str(len(it.of("command")))),
    ("Seconds of the commands", lambda it: f"{sum(step.seconds for step in it.of('command')):.0f}"),
    ("Waiting, in the time of the events", lambda it: f"{it.waited_days:.1f} days" if it.waited_days else "none"),
    ("Seconds until all figures follow the new logic", lambda it: f"{it.took:.0f}"),
    ("Seconds in which readers saw both logics side by side", lambda it: f"{it.times.mixed:.1f}"),
    ("Seconds in which they saw days cut short or absent", lambda it: f"{it.times.short:.1f}"),
    ("Answers that they looked at", lambda it: f"{it.times.answers:,}"),
    ("Rows of closed days compared with the oracle", lambda it: f"{it.equality.compared:,}"),
    ("... of these not equal", lambda it: f"{it.equality.differing:,}"),
    ("... events not counted in them", lambda it: f"{it.equality.missing:,}"),
    ("... events counted twice", lambda it: f"{it.equality.excess:,}"),
)


def table(kappa: Told, other: Told) -> str:
    """Return the comparison, then the steps of both."""
    cells = [("", "Kappa", "Lambda"), ("---", "---:", "---:")]
    cells += [(title, tell(kappa), tell(other)) for title, tell in _ROWS]
    steps = [("", "step", "seconds"), ("---", "---", "---:")]
    for name, told in (("Kappa", kappa), ("Lambda", other)):
        for number, step in enumerate(told.steps, start=1):
            seconds = "" if step.kind == "edit" else f"{step.seconds:.1f}"
            steps.append((f"{name} {number}", f"{step.kind}: {step.what}", seconds))
    return "\n\n".join("\n".join(f"| {' | '.join(row)} |" for row in rows) for rows in (cells, steps))


def put(page: str, name: str, text: str) -> str:
    """Return the page with what stands between the markers of this name changed to `text`."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    if first not in page or last not in page:
        raise PenstockError(f"the page has no markers {first} and {last}")
    head, _, rest = page.partition(first)
    return f"{head}{first}\n{text}\n{last}{rest.partition(last)[2]}"


def block(told: Told, command: str) -> str:
    """Return a command and what it printed."""
    return f"```\n$ {command.replace(' --timeout 600', '')}\n{told.outputs[command]}\n```"
