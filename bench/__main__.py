"""`make bench`: measure everything on a stack of its own, and print one table."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench import facts, kappa, report
from bench.report import Line
from bench.run import SECTIONS
from bench.sizes import FULL, QUICK, Sizes
from bench.stage import ROOT, load, stage
from penstock.errors import PenstockError
from penstock.wait import rich_progress

PAGE = ROOT / "docs" / "bench.md"
#: Measured only by its name: it has a page, and stacks, of its own.
KAPPA = "kappa"
Tables = dict[str, list[Line]]


def main(words: Sequence[str] | None = None) -> int:
    options = _options(words)
    console = Console(width=None if sys.stdout.isatty() else 180)
    signal.signal(signal.SIGTERM, _interrupt)
    tables: Tables = {}
    try:
        if options.part == KAPPA:
            with rich_progress(KAPPA) as progress:
                told = kappa.main(options.quick, _command(options), progress)
            print(told)
            return 0
        found = measure(QUICK if options.quick else FULL, options.part, _command(options), tables)
    except PenstockError as error:
        console.print(report.table(_all(tables), "incomplete"))
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        console.print(report.table(_all(tables), "interrupted"))
        return 130
    console.print(report.table(_all(tables), ", ".join(f"{name}: {value}" for name, value in found.items())))
    page = options.output or (None if options.quick else PAGE)
    if page is not None:
        write(page, options.part, tables, found)
        console.print(f"written to {page}")
    return 0


def measure(sizes: Sizes, only: str | None, command: str, tables: Tables) -> dict[str, str]:
    """Fill `tables`, one for each part's title, as they are measured, and return what they were measured on."""
    before = load()
    with rich_progress("bench") as progress, stage(progress) as ready:
        for name, section in SECTIONS.items():
            if only in (None, name):
                lines = tables.setdefault(name.capitalize(), [])
                for line in section(ready, sizes):
                    lines.append(line)
                    progress.update(f"{line.measured}: {line.result}")
        return dict(facts.facts(ready.settings, command, before))


def write(page: Path, only: str | None, tables: Tables, found: Mapping[str, str]) -> None:
    """Write the page, or one part of a page that is there."""
    method = Path(__file__).with_name("method.md").read_text(encoding="utf-8")
    if only is None or not page.exists():
        page.write_text(report.markdown(tables, found, method), encoding="utf-8")
        return
    title = only.capitalize()
    text = report.part(title, tables[title], found)
    page.write_text(report.replaced(page.read_text(encoding="utf-8"), title, text, method), encoding="utf-8")


def _all(tables: Tables) -> list[Line]:
    return [line for lines in tables.values() for line in lines]


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("part", nargs="?", choices=[*SECTIONS, KAPPA], help="measure this alone, and write it alone")
    parser.add_argument("--quick", action="store_true", help="small counts, in some minutes; docs/bench.md is left")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the page there, not to docs/bench.md")
    return parser.parse_args(words)


def _command(options: argparse.Namespace) -> str:
    chosen = [*([options.part] if options.part else []), *(["--quick"] if options.quick else [])]
    return " ".join([".venv/bin/python", "-m", "bench", *chosen]) if chosen else "make bench"


def _interrupt(_: int, __: FrameType | None) -> None:
    """End as with ctrl-c, so that the stack is taken down."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
