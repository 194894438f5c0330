"""Durations: written as "5 min", held as `timedelta`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}

EXAMPLES = '"500 ms", "30 s", "5 min", "1 h", "90 d"'


def parse_duration(value: object) -> timedelta | None:
    """Return "5 min" (or a timedelta) as a timedelta; None where it is not a positive duration."""
    if isinstance(value, timedelta):
        return value if value > timedelta(0) else None
    match = re.fullmatch(r"\s*(\d+)\s*(ms|s|min|h|d)\s*", value) if isinstance(value, str) else None
    if match is None:
        return None
    duration = int(match[1]) * _UNITS[match[2]]
    return duration if duration > timedelta(0) else None


def format_duration(duration: timedelta) -> str:
    """Write a timedelta the way a declaration does: in the largest unit that divides it."""
    for unit, size in reversed(_UNITS.items()):
        if duration % size == timedelta(0):
            return f"{duration // size} {unit}"
    return f"{duration / _UNITS['ms']:g} ms"


def millis(duration: timedelta | str) -> int:
    """Return whole milliseconds of a declaration's duration, once it has been checked."""
    assert isinstance(duration, timedelta), duration
    return duration // timedelta(milliseconds=1)
