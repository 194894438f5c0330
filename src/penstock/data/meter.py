"""How far a long run has come, on stderr: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

#: Seconds between two plain lines.
_LINES = 5.0


class Meter(Protocol):
    """`update(done, note)` is called every now and then; `note` says what is waited for, or is empty."""

    def update(self, done: int, note: str = "") -> None: ...


class NoMeter:
    """The meter that shows nothing."""

    def update(self, done: int, note: str = "") -> None:
        pass


@contextmanager
def meter(title: str, total: int | None, *, file: TextIO | None = None) -> Iterator[Meter]:
    """Show rows done of `total` (None: unknown), rows/s and the time left."""
    from rich.console import Console

    console = Console(stderr=True) if file is None else Console(file=file)
    if not console.is_terminal:
        yield _Lines(console.print, title, total)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[yellow]{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total, rate="", note="")
        started = time.monotonic()

        class Bar:
            def update(self, done: int, note: str = "") -> None:
                rate = f"{done / max(time.monotonic() - started, 1e-3):,.0f} rows/s"
                bar.update(task, completed=done, rate=rate, note=note)

        yield Bar()


class _Lines:
    def __init__(self, write: object, title: str, total: int | None) -> None:
        self._write, self._title, self._total = write, title, total
        self._started = time.monotonic()
        self._shown, self._waiting, self._finished = self._started, False, False

    def update(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        finished = done == self._total
        if self._finished or (now - self._shown < _LINES and bool(note) == self._waiting and not finished):
            return
        self._finished = finished
        seconds = max(now - self._started, 1e-3)
        of = "" if self._total is None else f" of {self._total:,}"
        text = f"{self._title}: {done:,}{of} rows, {done / seconds:,.0f} rows/s"
        if self._total and done and not finished:
            text += f", {(self._total - done) * seconds / done:.0f} s left"
        self._shown, self._waiting = now, bool(note)
        assert callable(self._write)
        self._write(text + (f"; {note}" if note else ""), highlight=False, soft_wrap=True)
