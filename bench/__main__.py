"""`make bench`: measure everything on a stack of its own, and print one table."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench import facts, report
from bench.report import Line
from bench.run import SECTIONS
from bench.sizes import FULL, QUICK, Sizes
from bench.stage import ROOT, load, stage
from penstock.errors import PenstockError
from penstock.wait import rich_progress

PAGE = ROOT / "docs" / "bench.md"


def main(words: Sequence[str] | None = None) -> int:
    options = _options(words)
    console = Console(width=None if sys.stdout.isatty() else 180)
    signal.signal(signal.SIGTERM, _interrupt)
    lines: list[Line] = []
    try:
        found = measure(QUICK if options.quick else FULL, options.only, _command(options), lines)
    except PenstockError as error:
        console.print(report.table(lines, "incomplete"))
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        console.print(report.table(lines, "interrupted"))
        return 130
    console.print(report.table(lines, ", ".join(f"{name}: {value}" for name, value in found.items())))
    page = options.output or (None if options.quick or options.only else PAGE)
    if page is not None:
        method = Path(__file__).with_name("method.md").read_text(encoding="utf-8")
        page.write_text(report.markdown(lines, found, method), encoding="utf-8")
        console.print(f"written to {page}")
    return 0


def measure(sizes: Sizes, only: str | None, command: str, lines: list[Line]) -> dict[str, str]:
    """Fill `lines` as they are measured, and return what they were measured on."""
    before = load()
    with rich_progress("bench") as progress, stage(progress) as ready:
        for name, section in SECTIONS.items():
            if only in (None, name):
                for line in section(ready, sizes):
                    lines.append(line)
                    progress.update(f"{line.measured}: {line.result}")
        return dict(facts.facts(ready.settings, command, before))


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, in under 4 minutes; docs/bench.md is left")
    parser.add_argument("--only", choices=list(SECTIONS), help="one part of it; docs/bench.md is left as it is")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the page there (a full run: docs/bench.md)")
    return parser.parse_args(words)


def _command(options: argparse.Namespace) -> str:
    chosen = [*(["--quick"] if options.quick else []), *(["--only", options.only] if options.only else [])]
    return " ".join([".venv/bin/python", "-m", "bench", *chosen]) if chosen else "make bench"


def _interrupt(_: int, __: FrameType | None) -> None:
    """End as with ctrl-c, so that the stack is taken down."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
