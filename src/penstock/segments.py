"""Segments: the spans of time in which Druid keeps, and a replay replaces, rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from penstock.errors import DeclarationError
from penstock.pipeline import SEGMENTS


def moment(option: str, text: str) -> int:
    """Read a UTC date, or date and time, given for `option`, as epoch ms; raise DeclarationError for any other text."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "write it in UTC, such as 2013-02-01 or 2013-02-01T06:00Z"
        raise DeclarationError(f"{option} {text!r} is no date", hint=hint) from None
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def floor(instant: int, segment: str) -> int:
    """Return the start of the segment (hour, day or month) that holds `instant`; both are epoch ms, UTC."""
    if segment != "month":
        return instant - instant % SEGMENTS[segment]
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant)
    return round(day.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


def ceiling(instant: int, segment: str) -> int:
    """Return the first start of a segment at or after `instant`."""
    start = floor(instant, segment)
    if start == instant:
        return instant
    longest = 31 * SEGMENTS["day"] if segment == "month" else SEGMENTS[segment]
    return floor(start + longest, segment)


def widen(start: int | None, end: int | None, segment: str) -> tuple[int | None, int | None]:
    """Align a range outwards to whole segments."""
    return (
        None if start is None else floor(start, segment),
        None if end is None else ceiling(end, segment),
    )
