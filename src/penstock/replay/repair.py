"""Repair: late events, grouped by the segments they belong to, and the replays that count them.

A late event is healed when, for each segment that its windows lie in, its offset is before the cut of a receipt whose
range holds that segment: the receipts and the late topic tell, so nothing is marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.durations import millis
from penstock.pipeline import Aggregate, Pipeline
from penstock.replay.acts import STEADY
from penstock.replay.facts import live
from penstock.replay.record import Replay
from penstock.replay.run import asked, new_id, prepare, refuse, run
from penstock.replay.scope import widened
from penstock.segments import ceiling, floor
from penstock.services.protocols import KafkaService, Services
from penstock.settings import Settings
from penstock.topics import late_topic
from penstock.wait import Progress

#: How a repair's id begins.
PREFIX = "repair-"


@dataclass(frozen=True)
class Late:
    """A late event: where it is in the source's log, and its event time (epoch ms)."""

    partition: int
    offset: int
    time: int


@dataclass(frozen=True)
class Span:
    """A run of segments next to each other (epoch ms, end exclusive) that late events belong to; `open` ones wait."""

    start: int
    end: int
    events: int
    open: bool


@dataclass(frozen=True)
class Repair:
    """What is to be done: `spans` in order.  `late` events there are, `healed` of them by replays before."""

    late: int
    healed: int
    spans: tuple[Span, ...]

    @property
    def ready(self) -> list[Span]:
        return [span for span in self.spans if not span.open]


def look(pipeline: Pipeline, services: Services) -> Repair:
    """Read the late topic and the receipts, and return what there is to repair.  Changes nothing."""
    record = services.registry.read().get(pipeline.name)
    receipts = services.replays.read().values()
    watermark = live(pipeline, record, services).watermark
    return plan_repair(pipeline, read_late(pipeline, services.kafka), receipts, watermark)


def repair(
    pipeline: Pipeline,
    todo: Repair,
    services: Services,
    settings: Settings,
    *,
    rate: float | None = None,
    progress: Progress | None = None,
    timeout: float = 300,
    steady: float = STEADY,
) -> list[Replay]:
    """Replay each span that is ready, in order, and return the receipts.  What `penstock.replay.run` raises ends it."""
    done = []
    for span in todo.ready:
        within = widened(pipeline, span.start, span.end)
        request = asked(within, dry_run=False, rate=rate, reason=f"repair: {span.events:,} late events")
        made = prepare(pipeline, within, request, services, settings, id=f"{PREFIX}{new_id(pipeline.name)}"[:80])
        refuse(made)
        done.append(run(pipeline, made.replay, services, settings, progress=progress, timeout=timeout, steady=steady))
    return done


def unfinished(pipeline: str, services: Services) -> list[Replay]:
    """Return the pipeline's repairs that were begun and have not ended, oldest first."""
    return [it for it in services.replays.read().values() if _unfinished(it, pipeline)]


def _unfinished(replay: Replay, pipeline: str) -> bool:
    return replay.pipeline == pipeline and replay.status == "running" and replay.id.startswith(PREFIX)


def finish(
    pipeline: Pipeline,
    services: Services,
    settings: Settings,
    *,
    progress: Progress | None = None,
    timeout: float = 300,
    steady: float = STEADY,
) -> list[Replay]:
    """Go on with the repairs that died on their way, and return the receipts: a new one of their range is refused."""
    more: dict[str, Any] = {"progress": progress, "timeout": timeout, "steady": steady}
    return [run(pipeline, it, services, settings, **more) for it in unfinished(pipeline.name, services)]


def read_late(pipeline: Pipeline, kafka: KafkaService) -> list[Late]:
    """Return the late events of a pipeline; those dated too early are none: no replay counts them."""
    topic = late_topic(pipeline.name)
    found = []
    for batch in kafka.read(topic, kafka.start_offsets(topic), kafka.end_offsets(topic, committed=True)):
        for record in batch:
            headers = dict(record.headers)
            if headers["reason"] == b"late":
                found.append(Late(int(headers["partition"]), int(headers["offset"]), int(headers["event_time"])))
    return found


def plan_repair(pipeline: Pipeline, late: Sequence[Late], receipts: Iterable[Replay], watermark: int | None) -> Repair:
    """Group the late events that no receipt covers into spans of whole segments.  Pure.

    A span whose windows have not all fired by `watermark` (epoch ms) is open: a replay of it would be refused.
    """
    published = [it for it in receipts if it.pipeline == pipeline.name and it.status == "done" and it.cut is not None]
    touched: dict[int, set[tuple[int, int]]] = {}
    for event in late:
        for segment in _segments(pipeline, event.time):
            if not any(_heals(receipt, event, segment) for receipt in published):
                touched.setdefault(segment, set()).add((event.partition, event.offset))
    left = {key for keys in touched.values() for key in keys}
    spans: list[Span] = []
    for start in sorted(touched):
        end = ceiling(start + 1, pipeline.sink.segment)
        closes = widened(pipeline, start, end).closed_at
        is_open = closes is not None and (watermark is None or watermark < closes)
        if spans and spans[-1].end == start and spans[-1].open == is_open:
            last = spans.pop()
            events = {key for at, keys in touched.items() if last.start <= at < end for key in keys}
            spans.append(Span(last.start, end, len(events), is_open))
        else:
            spans.append(Span(start, end, len(touched[start]), is_open))
    return Repair(len(late), len(late) - len(left), tuple(spans))


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
