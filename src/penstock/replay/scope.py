"""What a replay is asked for: a range, widened to whole segments, and the events that it takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from penstock.durations import millis
from penstock.errors import DeclarationError
from penstock.pipeline import Aggregate, Pipeline
from penstock.segments import ceiling, floor, moment

#: The end of a range that has none (9999-01-01): whole in every kind of segment.
EVER = 253_370_764_800_000


@dataclass(frozen=True)
class Scope:
    """A range of whole segments; all times are epoch ms, UTC, ends exclusive.

    `start` and `end` bound the windows' starts (or, without windows, the events); events of `[start, events_end)` are
    in them.  `closed_at` is the watermark at which the last window has fired, None where there are no windows.
    `asked` is the range before it was widened.
    """

    start: int
    end: int
    events_end: int
    closed_at: int | None
    asked: tuple[int, int]

    @property
    def widened(self) -> bool:
        return self.asked != (self.start, self.end)

    def overlaps(self, start: int, end: int) -> bool:
        return self.start < end and start < self.end


def scope(pipeline: Pipeline, start: str, end: str) -> Scope:
    """Read two UTC dates in text and widen them outwards to whole segments, since those are what is replaced.

    Raises DeclarationError for a date that can't be read and for an empty range.
    """
    first, last = moment("--from", start), moment("--to", end)
    if first >= last:
        hint = "--to is exclusive: one day is --from 2013-02-01 --to 2013-02-02"
        raise DeclarationError(f"--from {start} is not before --to {end}", hint=hint)
    return widened(pipeline, first, last)


def widened(pipeline: Pipeline, first: int, last: int) -> Scope:
    """Return the scope of `[first, last)` (epoch ms)."""
    segment = pipeline.sink.segment
    start, end = floor(first, segment), ceiling(last, segment)
    transform = pipeline.transform
    if not isinstance(transform, Aggregate):
        return Scope(start, end, end, None, (first, last))
    size, slide = millis(transform.window.size), millis(transform.window.slide)
    # The last window that starts before `end`; windows start at multiples of the slide.
    closes = (end - 1) // slide * slide + size
    return Scope(start, end, closes, closes - 1, (first, last))


def segments(pipeline: Pipeline, start: int, end: int) -> list[int]:
    """Return the starts of the segments of a range of whole segments."""
    found, at = [], start
    while at < end:
        found.append(at)
        at = ceiling(at + 1, pipeline.sink.segment)
    return found


def utc(instant: int | None) -> str:
    """Write epoch ms as a reader does: 2013-02-01T06:00Z, with seconds where there are any."""
    if instant is None:
        return "-"
    found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant)
    whole = "minutes" if found.second == found.microsecond == 0 else "seconds"
    return found.replace(tzinfo=None).isoformat(timespec=whole) + "Z"
