"""What a replay's plan has to know of the services.  Looks, and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from penstock.durations import millis
from penstock.flink.spec import job_name
from penstock.generation import stream
from penstock.pipeline import Pipeline, Topic
from penstock.plan import STAMP
from penstock.replay.record import Replay
from penstock.replay.scope import Scope
from penstock.services.protocols import KafkaService, Services
from penstock.services.registry import Record

Offsets = Mapping[int, int]


@dataclass(frozen=True)
class Live:
    """The pipeline's job: `id` of the one that runs (None where none does), its version and watermark (epoch ms).

    `coming` is the state of one that does not run yet, or not again yet; "" where there is none.
    """

    id: str | None = None
    version: str = ""
    watermark: int | None = None
    coming: str = ""


@dataclass(frozen=True)
class LogFacts:
    """The source's log.  `low` is where reading begins, `end` its last stable offsets now.

    `cut_off` are partitions of which retention may have removed records of the range, with the time of the first record
    that is left (epoch ms; None where none is).
    """

    low: Offsets
    end: Offsets
    cut_off: Mapping[int, int | None]


@dataclass(frozen=True)
class Facts:
    """One look at the services.  `foreign` says why the datasource is not ours to replace; None where it is."""

    live: Live
    log: LogFacts
    slots: int
    others: tuple[Replay, ...] = ()
    foreign: str | None = None
    suspended: bool = False

    def stops_live(self, scope: Scope, replay: Replay) -> bool:
        """Return whether a replay stops the running job before it starts another: its slots are free by then."""
        return scope.closed_at is None and not replay.asked.dry_run and self.live.id is not None


def not_ended(name: str, services: Services) -> tuple[Replay, ...]:
    """Return a pipeline's replays that are to be published and have not ended."""
    return tuple(
        replay
        for replay in services.replays.read().values()
        if replay.pipeline == name and replay.status == "running" and not replay.asked.dry_run
    )


def look(pipeline: Pipeline, scope: Scope, services: Services) -> Facts:
    """Look at the log, the live job, free slots, the supervisor and other replays of the pipeline."""
    record = services.registry.read().get(pipeline.name)
    supervisor = services.druid.supervisors().get(pipeline.name)
    foreign = None
    if record is None or record.status in ("new", "removing", "removed"):
        foreign = f"{pipeline.name} is not applied here" if record is None else f"{pipeline.name} is {record.status}"
    elif supervisor is None:
        foreign = f"Druid has no supervisor {pipeline.name}"
    elif STAMP not in supervisor.context:
        foreign = f"Druid's supervisor {pipeline.name} was not made by Penstock"
    others = not_ended(pipeline.name, services)
    return Facts(
        live=live(pipeline, record, services),
        log=log_facts(pipeline.source, scope, services.kafka),
        slots=int(services.flink.overview().get("slots-available", 0)),
        others=others,
        foreign=foreign,
        suspended=supervisor is not None and supervisor.suspended,
    )


def live(pipeline: Pipeline, record: Record | None, services: Services) -> Live:
    """Return the pipeline's running job."""
    called = job_name(stream(pipeline.name, record))
    found = [job for job in services.flink.jobs() if job.name == called and job.live]
    if record is None or not found or record.job_id not in {job.id for job in found}:
        return Live()
    (job,) = (job for job in found if job.id == record.job_id)
    if not job.running:
        return Live(version=record.version, coming="starting" if job.state == "RUNNING" else job.state.lower())
    return Live(job.id, record.version, services.flink.watermark(job.id))


def log_facts(topic: Topic, scope: Scope, kafka: KafkaService, now: int | None = None) -> LogFacts:
    """Find where the range begins in the log, by the records' timestamps.

    A record's timestamp is its producer's clock, never earlier than the event but for `too_early`; what is dated
    further ahead is not counted.  So nothing of the range lies before the first record stamped `start - too_early`.
    """
    since = scope.start - millis(topic.too_early)
    first, end = kafka.start_offsets(topic.name), kafka.end_offsets(topic.name, committed=True)
    found = kafka.offsets_for_time(topic.name, since)
    low = {partition: min(max(found[partition], first[partition]), end[partition]) for partition in end}
    removed = {partition: offset for partition, offset in first.items() if offset > 0}
    now = round(time.time() * 1000) if now is None else now
    kept_since = now - millis(topic.retention)
    cut_off: dict[int, int | None] = {}
    for partition, offset in removed.items():
        stamp = _first_stamp(kafka, topic.name, partition, offset, end[partition])
        # Where nothing is left, all that was there is older than the retention; so is what was before a first record.
        oldest = kept_since if stamp is None else stamp
        if oldest > since:
            cut_off[partition] = stamp
    return LogFacts(low, end, cut_off)


def _first_stamp(kafka: KafkaService, topic: str, partition: int, start: int, end: int) -> int | None:
    for batch in kafka.read(topic, {partition: start}, {partition: min(start + 1, end)}):
        for record in batch:
            return record.timestamp
    return None
