"""The parts' logs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from penstock.settings import Settings
from penstock.stack.layout import layout
from penstock.stack.parts import part_named, parts

#: Bytes read from a log's end to find its last lines.
TAIL_BYTES = 1 << 20


def tail(file: Path, lines: int) -> list[str]:
    """Return the last `lines` lines of `file`; none where there is no such file."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []


def logs(settings: Settings, part: str | None = None, lines: int = 50, follow: bool = False) -> Iterator[str]:
    """Yield the last lines of a part's log, or of all with their names before them; with `follow` go on for ever.

    Raises DeclarationError for an unknown part.
    """
    names = [part_named(settings, part).name] if part else [item.name for item in parts(settings)]
    files = {name: layout(settings).log_file(name) for name in names}
    mark = (lambda name, line: line) if part else (lambda name, line: f"{name:<22}| {line}")
    followed = {name: _Followed(file) for name, file in files.items()} if follow else {}
    for name, file in files.items():
        for line in tail(file, lines):
            yield mark(name, line)
    while followed:
        news = [(name, line) for name, source in followed.items() for line in source.news()]
        yield from (mark(name, line) for name, line in news)
        if not news:
            time.sleep(0.3)


class _Followed:
    """A log from its present end on, through its rotations."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rest = b""
        self.stream: IO[bytes] | None = None
        self._open(at_end=True)

    def _open(self, at_end: bool) -> None:
        try:
            self.stream = self.file.open("rb")
        except FileNotFoundError:
            return
        if at_end:
            self.stream.seek(0, os.SEEK_END)

    def news(self) -> list[str]:
        """Return the whole lines written since the last call."""
        if self.stream is None:
            self._open(at_end=False)
        if self.stream is None:
            return []
        data = self.rest + self.stream.read()
        *whole, self.rest = data.split(b"\n")
        if not whole and self._rotated():
            self.stream.close()
            self._open(at_end=False)
            # What the old file ended with will get no line's end any more.
            whole, self.rest = ([self.rest] if self.rest else []), b""
        return [line.decode(errors="replace") for line in whole]

    def _rotated(self) -> bool:
        assert self.stream is not None
        try:
            now, then = self.file.stat(), os.fstat(self.stream.fileno())
        except FileNotFoundError:
            return False
        return now.st_ino != then.st_ino or now.st_size < self.stream.tell()
