"""Repair: late events and what the ledger finds wrong, grouped by the segments they belong to.

A late event is healed when, for each segment that its windows lie in, its offset is before the cut of a receipt whose
range holds that segment: the receipts and the late topic tell, so nothing is marked.  What the ledger finds wrong is
healed when it finds it no longer.  `penstock.replay.mend` replays what is ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field

from penstock.durations import millis
from penstock.generation import deployed
from penstock.pipeline import Aggregate, Pipeline
from penstock.reconcile import Ledger
from penstock.rejected import read_rejected
from penstock.replay.facts import live
from penstock.replay.record import Replay
from penstock.replay.scope import widened
from penstock.segments import ceiling, floor
from penstock.services.protocols import KafkaService, Services
from penstock.topics import late_topic

#: A range of segments' starts (epoch ms, end exclusive); None is unbounded.
Range = tuple[int | None, int | None]
EVERYTHING: Range = (None, None)


@dataclass(frozen=True)
class Late:
    """A late event: where it is in the source's log, its event time, and when it came (both epoch ms)."""

    partition: int
    offset: int
    time: int
    came: int = 0


@dataclass(frozen=True)
class Wrong:
    """What the ledger finds wrong in segments.

    Events are `lost` from the result topic or `doubled` there, `missing` from Druid or there in `excess`; `differing`
    counts rows.
    """

    lost: int = 0
    doubled: int = 0
    missing: int = 0
    excess: int = 0
    differing: int = 0

    def __add__(self, other: Wrong) -> Wrong:
        return Wrong(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    def words(self) -> list[str]:
        found = [
            words.format(count)
            for words, count in (
                ("shortfall of {:,}", self.lost),
                ("{:,} counted more than once", self.doubled),
                ("Druid lacks {:,}", self.missing),
                ("Druid has {:,} too many", self.excess),
            )
            if count
        ]
        # Where counts are wrong rows differ, too; of others that is all there is to say.
        return found or ([f"{self.differing:,} rows differ"] if self.differing else [])


@dataclass(frozen=True)
class Span:
    """A run of segments next to each other (epoch ms, end exclusive) with `events` late ones; `open` ones wait."""

    start: int
    end: int
    events: int
    open: bool
    wrong: Wrong = Wrong()

    @property
    def why(self) -> str:
        return ", ".join([*([f"{self.events:,} late"] if self.events else []), *self.wrong.words()])


@dataclass(frozen=True)
class Repair:
    """What is to be done: `spans` in order.

    `late` events there are, `healed` of them by replays before, `waiting` for windows that are still open; `newest` is
    when the last came of those that can be healed now.  `elsewhere` counts differences that no replay can mend.
    """

    late: int
    healed: int
    spans: tuple[Span, ...]
    waiting: int = 0
    newest: int | None = None
    elsewhere: int = 0

    @property
    def ready(self) -> list[Span]:
        return [span for span in self.spans if not span.open]


def look(pipeline: Pipeline, services: Services, *, ledger: Ledger | None = None, within: Range = EVERYTHING) -> Repair:
    """Read the late topic and the receipts, and return what there is to repair.  Changes nothing."""
    record = services.registry.read().get(pipeline.name)
    pipeline = deployed(pipeline, record)
    receipts = services.replays.read().values()
    watermark = live(pipeline, record, services).watermark
    return plan_repair(pipeline, read_late(pipeline, services.kafka), receipts, watermark, ledger=ledger, within=within)


def read_late(pipeline: Pipeline, kafka: KafkaService) -> list[Late]:
    """Return the late events of a pipeline; those dated too early are none: no replay counts them."""
    found: dict[tuple[int, int], Late] = {}
    for batch in read_rejected(kafka, late_topic(pipeline.stream), pipeline.source.name):
        for it in batch:
            if it.reason == "late" and it.event_time is not None:
                found[it.partition, it.offset] = Late(it.partition, it.offset, it.event_time, it.record.timestamp)
    # Where a topic was deleted and made anew there are some that no cut would be past, so that no replay heals them.
    end = kafka.end_offsets(pipeline.source.name, committed=True) if found else {}
    return [it for it in found.values() if it.offset < end.get(it.partition, 0)]


def wrong_segments(ledger: Ledger) -> dict[int, Wrong]:
    """Return what is wrong in each segment that is not equal, by its start (epoch ms)."""
    return {
        it.begins: Wrong(
            max(0, it.shortfall), max(0, -it.shortfall), max(0, -it.excess), max(0, it.excess), it.differing
        )
        for it in ledger.segments
        if not it.equal
    }


@dataclass
class _Touched:
    """What is to be repaired in one segment."""

    late: set[Late] = field(default_factory=set)
    wrong: Wrong = Wrong()


def plan_repair(
    pipeline: Pipeline,
    late: Sequence[Late],
    receipts: Iterable[Replay],
    watermark: int | None,
    *,
    ledger: Ledger | None = None,
    within: Range = EVERYTHING,
) -> Repair:
    """Group late events that no receipt covers, and what a ledger names, into spans of whole segments.  Pure.

    A span whose windows have not all fired by `watermark` (epoch ms) is open: a replay of it would be refused.
    """
    published = [it for it in receipts if it.published(pipeline)]
    touched: dict[int, _Touched] = {}
    seen: set[Late] = set()
    for event in late:
        for segment in _segments(pipeline, event.time):
            if not _inside(segment, within):
                continue
            seen.add(event)
            if not any(_heals(receipt, event, segment) for receipt in published):
                touched.setdefault(segment, _Touched()).late.add(event)
    for segment, wrong in wrong_segments(ledger).items() if ledger else ():
        if _inside(segment, within):
            touched.setdefault(segment, _Touched()).wrong = wrong
    still_open = {segment for segment in touched if _is_open(pipeline, segment, watermark)}
    left = {event for it in touched.values() for event in it.late}
    waiting = {event for segment in still_open for event in touched[segment].late}
    return Repair(
        late=len(seen),
        healed=len(seen) - len(left),
        spans=tuple(_spans(pipeline, touched, still_open)),
        waiting=len(waiting),
        newest=max((event.came for event in left - waiting), default=None),
        elsewhere=ledger.elsewhere if ledger else 0,
    )


def _spans(pipeline: Pipeline, touched: Mapping[int, _Touched], still_open: set[int]) -> Iterable[Span]:
    """Join segments that are next to each other, as far as they can be replayed, or must wait, together."""
    runs: list[list[int]] = []
    for segment in sorted(touched):
        last = runs[-1][-1] if runs else None
        if last is None or _end(pipeline, last) != segment or (last in still_open) != (segment in still_open):
            runs.append([])
        runs[-1].append(segment)
    for run in runs:
        events = {event for at in run for event in touched[at].late}
        wrong = sum((touched[at].wrong for at in run), Wrong())
        yield Span(run[0], _end(pipeline, run[-1]), len(events), run[0] in still_open, wrong)


def _end(pipeline: Pipeline, segment: int) -> int:
    return ceiling(segment + 1, pipeline.sink.segment)


def _is_open(pipeline: Pipeline, segment: int, watermark: int | None) -> bool:
    closes = widened(pipeline, segment, _end(pipeline, segment)).closed_at
    return closes is not None and (watermark is None or watermark < closes)


def _inside(segment: int, within: Range) -> bool:
    low, high = within
    return (low is None or segment >= low) and (high is None or segment < high)


def _windows(pipeline: Pipeline, time: int) -> tuple[int, int]:
    """The starts of the first and the last window that hold an event."""
    transform = pipeline.transform
    if not isinstance(transform, Aggregate):
        return time, time
    size, slide = millis(transform.window.size), millis(transform.window.slide)
    last = time // slide * slide
    return last - size + slide, last


def _segments(pipeline: Pipeline, time: int) -> list[int]:
    first, last = _windows(pipeline, time)
    found = [floor(first, pipeline.sink.segment)]
    while (following := ceiling(found[-1] + 1, pipeline.sink.segment)) <= last:
        found.append(following)
    return found


def _heals(receipt: Replay, event: Late, segment: int) -> bool:
    assert receipt.cut is not None
    below = event.offset < receipt.cut.high.get(event.partition, 0)
    return below and receipt.asked.wide_start <= segment < receipt.asked.wide_end
