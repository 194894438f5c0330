"""The table: in the terminal, and as a Markdown page.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from bench.stats import Spread

COLUMNS = ("Measured", "Result", "Detail", "Aim", "Load")


@dataclass(frozen=True)
class Line:
    """One measurement.  `met` is None where there is no aim; `load` is the load average (1 min) at its end."""

    measured: str
    result: str
    detail: str
    load: float
    aim: str = ""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        verdict = {None: "", True: " met", False: " missed"}[self.met]
        return self.measured, self.result, self.detail, self.aim + verdict, f"{self.load:.1f}"


def throughput(measured: str, rates: Sequence[float], cpu: Sequence[float], load: float) -> Line:
    """`rates` in events/s and `cpu` in microseconds of the TaskManager's processor time an event, one of each a run."""
    runs = f"{min(rates):,.0f} to {max(rates):,.0f} in {len(rates)} runs; " if len(rates) > 1 else "1 run; "
    return Line(measured, f"{median(rates):,.0f} events/s", f"{runs}{median(cpu):.2f} µs CPU/event", load)


def ratio(measured: str, rates: Sequence[float], cpu: Sequence[float], load: float, *, aim: float) -> Line:
    """`rates` are each round's ratio of rates, `cpu` of processor time the other way round: 1 is as good as bare.

    The result is the median round; how far the rounds are apart says how much it is worth.
    """
    spread = f"{min(rates):.2f} to {max(rates):.2f} in {len(rates)} rounds"
    detail = f"median; {spread}; by processor time {median(cpu):.2f} ({min(cpu):.2f} to {max(cpu):.2f})"
    return Line(measured, f"{median(rates):.2f}", detail, load, f">= {aim:g}", median(rates) >= aim)


def latency(measured: str, spread: Spread, load: float, *, of: str, aim_p99: float | None = None) -> Line:
    """`spread` and `aim_p99` in seconds; `of` says what the samples are."""
    result = f"p50 {_ms(spread.p50)}, p95 {_ms(spread.p95)}, p99 {_ms(spread.p99)}"
    detail = f"{spread.count:,} {of}, worst {_ms(spread.worst)}"
    if aim_p99 is None:
        return Line(measured, result, detail, load)
    return Line(measured, result, detail, load, f"p99 < {_ms(aim_p99)}", spread.p99 < aim_p99)


def real_time(measured: str, history: float, took: float, detail: str, load: float, *, aim: float | None) -> Line:
    """`history` is the seconds that were replayed, `took` those of the wall clock."""
    times = history / took
    if aim is None:
        return Line(measured, f"{times:,.0f} times real time", detail, load)
    return Line(measured, f"{times:,.0f} times real time", detail, load, f">= {aim:,.0f}", times >= aim)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def table(lines: Sequence[Line], title: str) -> Table:
    """Return the terminal's table."""
    made = Table(title=title, title_justify="left")
    for name in COLUMNS:
        made.add_column(name, justify="right" if name == "Load" else "left")
    for line in lines:
        style = {None: None, True: "green", False: "red"}[line.met]
        made.add_row(*line.cells, style=style)
    return made


def markdown(tables: Mapping[str, Sequence[Line]], facts: Mapping[str, str], method: str) -> str:
    """Return the page: each part's facts and table, by its title, and how each figure is measured."""
    parts = [
        "# Measurements",
        "`make bench` writes this page, `python -m bench replay` (or another part's name) that part alone.  The "
        "figures of a part are of one run, side by side on one native stack.",
        *(part(title, lines, facts) for title, lines in tables.items()),
        method.strip(),
    ]
    return "\n\n".join(parts) + "\n"


def part(title: str, lines: Sequence[Line], facts: Mapping[str, str]) -> str:
    """Return one part of the page: its title, what it was measured on, its table."""
    rows = [COLUMNS, tuple("---:" if name == "Load" else "---" for name in COLUMNS), *(line.cells for line in lines)]
    measured_on = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    cells = "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)
    return f"## {title}\n\n{measured_on}\n\n{cells}"


def replaced(page: str, title: str, text: str, method: str) -> str:
    """Return the page with the part of this title changed to `text`, or put before the method where it has none."""
    head, *parts = page.split("\n## ")
    kept = [item for item in parts if not method.strip().startswith(f"## {item.splitlines()[0]}")]
    names = [item.splitlines()[0] for item in kept]
    new = text.removeprefix("## ").strip() + "\n"
    if title in names:
        kept[names.index(title)] = new
    else:
        kept.append(new)
    return "\n## ".join([head, *kept]) + "\n" + method.strip() + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
