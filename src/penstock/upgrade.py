"""Upgrade: bring a changed declaration into place without losing or repeating a row.

in place      the stateful part is unchanged: the new job goes on from a savepoint of the old one
with replay   anything may have changed: the new job begins beside the old one, the past is computed anew, and both
              replace the old figures in one stroke (`penstock.replay.launch`)
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from penstock import in_place
from penstock.durations import millis
from penstock.errors import RefusedError
from penstock.flink.spec import version
from penstock.generation import deployed, running
from penstock.lifecycle import Outcome
from penstock.pipeline import Aggregate, Pipeline
from penstock.plan import STAMP
from penstock.replay.acts import STEADY
from penstock.replay.begin import Begun
from penstock.replay.facts import Facts, look
from penstock.replay.left_behind import left_behind
from penstock.replay.record import FLAGS as OF_REPLAYS
from penstock.replay.record import Handover, Replay
from penstock.replay.run import asked, checked_id, new_id, run
from penstock.replay.scope import EVER, Scope, utc, widened
from penstock.replay.steps import Plan, Refusal, log_refusals, plan_of, unfinished
from penstock.segments import floor
from penstock.services.protocols import KafkaService, Services
from penstock.services.registry import Record
from penstock.settings import Settings
from penstock.wait import Progress

UNHEALED = "unhealed"
#: What an upgrade may be allowed by name, and what it costs.
FLAGS = {
    **OF_REPLAYS,
    UNHEALED: "late events before --replay-from that are not healed yet stay out, until their range is replayed",
}

#: Records at a partition's end among which its newest event is looked for.
TAIL = 500


@dataclass(frozen=True)
class Request:
    """What is asked of an upgrade with a replay: from where on (epoch ms), and how."""

    since: int
    dry_run: bool = False
    rate: float | None = None
    reason: str = ""
    allow: Collection[str] = frozenset()


def begin(
    pipeline: Pipeline, request: Request | None, services: Services, settings: Settings, *, id: str | None = None
) -> Begun | None:
    """Return the upgrade with a replay that is to be run: a known one of that id, one that has not ended, or a new one.

    None where there is none: nothing is requested, so it is in place, or the declared version runs.  Changes nothing.
    """
    known = services.replays.read().get(id) if id else None
    known = known or under_way(pipeline.name, services)
    if known is not None:
        if request is not None and request.dry_run and not known.asked.dry_run:
            raise RefusedError(f"upgrade {known.id} is not finished", hint="without --dry-run it goes on")
        if request is not None and known.status == "running" and request.since != known.asked.start:
            raise RefusedError(
                f"upgrade {known.id} is not finished: it was begun with --replay-from {utc(known.asked.start)}",
                hint=f"`penstock upgrade {pipeline.name}` goes on with it, "
                f"`penstock replays --abandon {known.id}` gives it up",
            )
        return Begun(pipeline, known)
    if request is None or (not request.dry_run and runs(pipeline, services)):
        return None
    made = prepare(pipeline, request, services, settings, id=id)
    return Begun(pipeline, made.replay, made)


def upgrade(
    pipeline: Pipeline,
    begun: Begun | None,
    services: Services,
    settings: Settings,
    *,
    progress: Progress | None = None,
    timeout: float = 300,
    steady: float = STEADY,
) -> Outcome | Replay:
    """Bring the declared version into place: what `begin` gave, else in place; return what was done, or the receipt.

    Run again it goes on where it died; where the declared version runs it says so.  Raises what either way does, and
    RefusedError where something stands against a new one: then nothing was stopped.
    """
    if begun is None:
        return in_place.upgrade(pipeline, services, settings, progress=progress, timeout=timeout)
    begun.refuse()
    return run(pipeline, begun.replay, services, settings, progress=progress, timeout=timeout, steady=steady)


def under_way(name: str, services: Services) -> Replay | None:
    """Return the pipeline's unfinished upgrade, None where there is none."""
    found = [it for it in services.replays.read().values() if it.pipeline == name and it.brings_generation]
    return found[-1] if found else None


def runs(pipeline: Pipeline, services: Services) -> bool:
    """Return whether the declared version is the one that the registry has running."""
    record = services.registry.read().get(pipeline.name)
    return record is not None and record.version == version(pipeline) and record.status == "running"


def begins(declared: Sequence[Pipeline], services: Services) -> list[Pipeline]:
    """Return the pipelines that were never applied, or whose first start beside a replay is not finished."""
    records = services.registry.read()
    return [it for it in declared if it.name not in records or under_way(it.name, services)]


def prepare(
    pipeline: Pipeline, request: Request, services: Services, settings: Settings, *, id: str | None = None
) -> Plan:
    """Look, and return the plan of an upgrade with a replay, or of a first start with one.  Changes nothing."""
    record = services.registry.read().get(pipeline.name)
    current = deployed(pipeline, record)
    probe = widened(pipeline, request.since, request.since + 1)
    facts = look(current, probe, services)
    end = boundary(pipeline, facts.live.watermark, services.kafka)
    scope = widened(pipeline, request.since, max(end, request.since + 1))
    made = asked(scope, dry_run=request.dry_run, rate=request.rate, reason=request.reason, allow=request.allow)
    before = facts.live.version or (record.version if record is not None and _lives(record) else "")
    live = _slots(pipeline, settings)
    replay = Replay(
        id=checked_id(id or f"upgrade-{new_id(pipeline.name)}"),
        pipeline=pipeline.name,
        version=version(pipeline),
        asked=made,
        was_running=record is not None and record.to_run,
        generation=_next(record),
        handover=Handover(version=before, run=_run(pipeline.name, record, services)),
    )
    if facts.stops_live(scope, replay):
        old = running(record) if record is not None else None
        facts = replace(facts, slots=facts.slots + _slots(old or pipeline, settings))
    replay = replay.but(parallelism=max(1, min(live, facts.slots - (0 if request.dry_run else live))))
    facts = replace(facts, foreign=_foreign(pipeline.name, services))
    refused = _refusals(pipeline, scope, replay, facts, live, end)
    if not request.dry_run and UNHEALED not in request.allow:
        refused += left_behind(current, record, scope.start, services)
    return plan_of(pipeline, scope, replay, facts, refused)


def _slots(pipeline: Pipeline, settings: Settings) -> int:
    """Return how many slots its job takes."""
    return min(pipeline.parallelism or settings.env.flink.parallelism, pipeline.source.partitions)


def _lives(record: Record) -> bool:
    return record.status not in ("new", "removed")


def _next(record: Record | None) -> int:
    return 0 if record is None else int(record.launch.get("generation", 0)) + 1


def _run(name: str, record: Record | None, services: Services) -> int:
    """Return the new job's number: no job that Flink has seen, of an upgrade that was given up, had it."""
    runs = [it.handover.run for it in services.replays.read().values() if it.pipeline == name and it.handover]
    return max([-1 if record is None else record.run, *runs]) + 1


def _foreign(name: str, services: Services) -> str | None:
    supervisor = services.druid.supervisors().get(name)
    made_here = supervisor is None or STAMP in supervisor.context
    return None if made_here else f"Druid's supervisor {name} was not made by Penstock"


def boundary(pipeline: Pipeline, watermark: int | None, kafka: KafkaService) -> int:
    """Return where the new job's windows begin: the segment of the first window that is still open.

    By the old job's watermark, or where none runs, by the newest events of the log.  Without windows there is none: the
    range has no end.
    """
    transform = pipeline.transform
    if not isinstance(transform, Aggregate):
        return EVER
    if watermark is None:
        watermark = log_watermark(pipeline, kafka)
    size, slide = millis(transform.window.size), millis(transform.window.slide)
    return floor((watermark + 1 - size) // slide * slide + slide, pipeline.sink.segment)


def log_watermark(pipeline: Pipeline, kafka: KafkaService) -> int:
    """Return about where a job's watermark would be that had read the log: of partitions' newest events the oldest."""
    topic = pipeline.source
    first, end = kafka.start_offsets(topic.name), kafka.end_offsets(topic.name, committed=True)
    newest: dict[int, int] = {}
    for batch in kafka.read(topic.name, {p: max(first[p], end[p] - TAIL) for p in end}, end):
        for record in batch:
            try:
                at = json.loads(record.value or b"")[topic.event_time]
            except (ValueError, KeyError, TypeError, RecursionError):  # a broken record, nested ever so deeply
                continue
            if isinstance(at, int) and at <= record.timestamp + millis(topic.too_early):
                newest[record.partition] = max(newest.get(record.partition, at), at)
    latest = min(newest.values()) if newest else round(time.time() * 1000)
    return latest - millis(topic.out_of_orderness)


def _refusals(pipeline: Pipeline, scope: Scope, replay: Replay, facts: Facts, live: int, end: int) -> list[Refusal]:
    found = []
    assert replay.handover is not None
    if facts.foreign is not None:
        found.append(Refusal(facts.foreign, "a datasource of others is never replaced"))
    if replay.handover.version == replay.version:
        way = f"`penstock replay {pipeline.name} --from ... --to ...` computes its past anew"
        found.append(Refusal(f"version {replay.version} runs already", way))
    if end <= scope.start:
        reason = f"nothing of the range is past: windows from {utc(end)} on are still open"
        found.append(Refusal(reason, f"choose a --replay-from before {utc(end)}"))
    found += log_refusals(pipeline, facts)
    found += unfinished(replay, facts.others)
    needed = 1 if replay.asked.dry_run else live + 1
    if facts.slots < needed:
        way = "stop a job, or raise taskmanager.numberOfTaskSlots"
        those = " with those of the old job" if facts.stops_live(scope, replay) else ""
        reason = f"Flink has {facts.slots} free slots{those}, the new job and the replay need {needed}"
        found.append(Refusal(reason, way))
    if facts.suspended and not replay.asked.dry_run:
        found.append(Refusal(f"Druid's supervisor {pipeline.name} is suspended", "`penstock apply` resumes it"))
    return found
