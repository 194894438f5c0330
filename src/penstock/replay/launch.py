"""What the steps of a new generation do: a job whose logic is new begins beside the old one, and takes over from it.

The past is a replay like any other.  The new job reads from the boundary on and keeps to windows that start there; a
record of an earlier window belongs to the replay if it lies before the cut, and is late to the new job after it: so
every record is in one of the two, whatever the old job did.  The old job's results are in Druid until the past and all
that the new job has by then replace them, in one transaction; then Druid goes on in the new job's topic, right there.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from penstock.actions import await_supervisor
from penstock.druid import supervisor_spec
from penstock.durations import millis
from penstock.errors import PenstockError, RefusedError
from penstock.flink.spec import SPECIFIC, JobSpec, job_spec
from penstock.generation import launch_to_json, running, stream, to_json
from penstock.lifecycle import make_site, start, stop
from penstock.pipeline import Aggregate, Launch
from penstock.plan import digest, public, stamped
from penstock.plan_job import settings_digest
from penstock.replay import publish as publishing
from penstock.replay.acts import Work, cut_log, last_records, transactions_finished
from penstock.replay.ends import drop_generation
from penstock.replay.facts import log_facts
from penstock.replay.record import Count, Handover, Replay, Settled
from penstock.replay.scope import utc
from penstock.replay.verify import dead_letters, files_in
from penstock.segments import ceiling, floor
from penstock.services.flink import Job
from penstock.services.kafka_write import Outgoing
from penstock.services.registry import Record
from penstock.settle import worked_off
from penstock.topics import consumer_group, dlq_topic, out_topic, topic_specs
from penstock.wait import Pending


def handover(replay: Replay) -> Handover:
    assert replay.handover is not None
    return replay.handover


def cut(work: Work, replay: Replay) -> Replay:
    """Take the cut, and note where the new job begins to read: where nothing of its windows can lie before."""
    replay = cut_log(work, replay)
    assert replay.cut is not None
    low, boundary = replay.cut.high, None
    if work.scope.closed_at is not None:
        boundary = work.scope.end
        later = replace(work.scope, start=boundary)
        found = log_facts(work.pipeline.source, later, work.services.kafka).low
        low = {partition: min(offset, replay.cut.high[partition]) for partition, offset in found.items()}
    launch = Launch(replay.generation, work.scope.start, boundary, _pairs(low), _pairs(replay.cut.high))
    # Nothing of the new result topic is from before the cut.
    settled = Settled(None, replay.cut.savepoint or "", {})
    return replay.but(settled=settled, handover=replace(handover(replay), launch=launch))


def _pairs(offsets: object) -> tuple[tuple[int, int], ...]:
    assert isinstance(offsets, dict)
    return tuple(sorted(offsets.items()))


def new_job(work: Work, replay: Replay) -> JobSpec:
    """Derive the new generation's job as it begins."""
    return job_spec(work.pipeline, work.settings.env, startup=SPECIFIC, run=handover(replay).run)


def begin(work: Work, replay: Replay) -> Replay:
    """Start the new job in topics of its own, and wait until it runs; one that does already is taken as it is."""
    kafka, flink, env = work.services.kafka, work.services.flink, work.settings.env
    specs = topic_specs(work.pipeline, env)
    there = kafka.topics([spec.name for spec in specs])
    for spec in specs:
        if spec.name not in there and not spec.external:
            kafka.create_topic(spec)
    job = new_job(work, replay)
    if flink.job(job.job_id) is None:
        # What an earlier attempt has committed under this name must not be taken for what this one has read.
        kafka.reset_group(consumer_group(env.name, work.pipeline.stream), work.pipeline.source.name)
        work.services.submit(work.settings, [job], work.progress)

    def probe() -> bool | Pending:
        found = alive(work, replay)
        tasks = f"{found.state}, {found.running_tasks} of {found.total_tasks} tasks run"
        return True if found.running else Pending(tasks)

    work.until(f"the new job of {work.pipeline.name}", probe, interval=0.25, hint="has Flink free slots?")
    return replay


def alive(work: Work, replay: Replay) -> Job:
    """Return the new job as it runs, or tries to.  Raises PenstockError where it has ended."""
    flink, job = work.services.flink, new_job(work, replay)
    found = flink.job(job.job_id)
    if found is None or not (found.live or found.leaving):
        reason = flink.root_exception(job.job_id) if found else "Flink does not know it"
        raise PenstockError(f"{job.name} does not run: {reason or 'Flink gives no reason'}", hint=give_up(replay))
    return found


def give_up(replay: Replay) -> str:
    return f"`penstock replays --abandon {replay.id}` gives it up, and leaves the old version as it was"


def catch_up(work: Work, replay: Replay) -> Replay:
    """Wait until the new job has read what is in the log by now, and its watermark is where the old one's is."""
    record = work.services.registry.read().get(work.pipeline.name)
    flink = work.services.flink
    job = flink.job(record.job_id) if record is not None and record.job_id else None
    # A job that has ended, and that Flink has forgotten in time, holds nothing back.
    old = flink.watermark(job.id) if job is not None and job.live else None
    _await_watermark(work, replay, old, still=work.steady + millis(work.pipeline.source.idle_after) / 1000)
    return replay


def _await_watermark(work: Work, replay: Replay, wanted: int | None, *, still: float) -> None:
    """Wait until the new job has worked off the log, and its watermark is there: what was closed stays so.

    By its declaration it may be behind for good, if nothing more comes: one that stands `still` for so many seconds is
    taken as it is.  A job that restarts shows none, or that of before, and may have gone back.
    """
    kafka, source, identity = work.services.kafka, work.pipeline.source, new_job(work, replay).job_id
    group = consumer_group(work.settings.env.name, work.pipeline.stream)
    passed = worked_off(kafka, group, source.name, kafka.end_offsets(source.name, committed=True))
    work.until(f"{work.pipeline.stream}: the new job", passed, interval=0.25)
    since, before = time.monotonic(), None

    def probe() -> bool | Pending:
        nonlocal since, before
        job, watermark, now = alive(work, replay), work.services.flink.watermark(identity), time.monotonic()
        if wanted is None or (watermark is not None and watermark >= wanted):
            return True
        if watermark is None or watermark != before or not job.running:
            since, before = now, watermark
        seen = "not known" if watermark is None else f"at {utc(watermark)}"
        return now - since > still or Pending(f"{job.state}, its watermark is {seen}, {utc(wanted)} is wanted")

    work.until(f"{work.pipeline.stream}: the new job", probe, interval=0.25, hint="it advances with the next records")


def hand_over(work: Work, replay: Replay) -> Replay:
    """Stop the old job, let Druid publish what that one wrote and wait; note where the new job's results stand."""
    services, name = work.services, work.pipeline.name
    guard(work, replay)
    record = services.registry.read().get(name)
    supervisor = services.druid.supervisors().get(name)
    if record is not None and record.job_id and record.status != "stopped":
        stop(name, services, work.settings, progress=work.progress, timeout=work.timeout)
    if record is not None and supervisor is not None and not supervisor.suspended:
        # Rows that no task has read yet would never be: the old topic is read no more.
        transactions_finished(work, stream(name, record))
        publishing.await_hand_off(work, last_records(services.kafka, out_topic(stream(name, record))))
        services.druid.suspend(name, timeout=work.timeout, progress=work.progress)
    offsets: dict[int, int] = {}
    if isinstance(work.pipeline.transform, Aggregate):
        served = services.druid.newest(name, "window_end")
        # From an older checkpoint the new job would write again what is before the noted offsets, behind them.
        checkpoint = _fired(work, replay, served)
        assert replay.cut is not None
        cut = replace(replay.cut, job_id=new_job(work, replay).job_id)
        replay = replay.but(cut=cut, settled=Settled(checkpoint, "", {}))
        transactions_finished(work, work.pipeline.stream)
        offsets = services.kafka.end_offsets(out_topic(work.pipeline.stream), committed=True)
    return replay.but(handover=replace(handover(replay), offsets=offsets))


def _fired(work: Work, replay: Replay, served: int | None) -> int:
    """See that the new job has fired what Druid serves, and return the checkpoint that makes it durable.

    A job that was restored between the look and the checkpoint may have gone back behind the windows: look again.
    """
    flink, job = work.services.flink, new_job(work, replay).job_id
    found: list[int] = []
    # What ends at the boundary, or before, is the past's.
    wanted = served - 1 if served is not None and served > work.scope.end else None

    def probe() -> bool | Pending:
        before = flink.restored(job)
        _await_watermark(work, replay, wanted, still=work.steady)
        try:
            found.append(flink.trigger_checkpoint(job, timeout=work.timeout))
        except PenstockError as error:
            alive(work, replay)  # one that restarts takes another
            return Pending(error.message)
        return flink.restored(job) == before or Pending("it was restored meanwhile")

    work.until(f"{work.pipeline.stream}: the new job", probe, interval=0.25)
    return found[-1]


def guard(work: Work, replay: Replay) -> None:
    """Refuse to go on where what runs is no longer what the new generation is to take over from."""
    record = work.services.registry.read().get(work.pipeline.name)
    version = record.version if record is not None and record.status not in ("new", "removed") else ""
    if version != handover(replay).version:
        raise RefusedError(
            f"upgrade {replay.id} can't go on: another version has been applied since", hint=give_up(replay)
        )


def publication(work: Work, replay: Replay) -> tuple[Replay, list[Path], int]:
    """Return what is published, and up to where: the past, and the new job's results up to the noted offsets.

    The range ends behind all that Druid has, so that nothing of the old job's is left.
    """
    made, folder, segment = handover(replay), work.folder(replay, replay.attempt), work.pipeline.sink.segment
    past = [file for file in files_in(folder) if file.stat().st_size]
    tail = folder.with_name(f"{replay.attempt}-tail") / "rows.json"
    if made.end and (tail.is_file() or not made.tail):  # told before: a task may be reading it
        return replay, [*past, *([tail] if made.tail else [])], made.end
    counts = _write_tail(work, replay, tail)
    if made.end:
        return replay, [*past, *([tail] if counts else [])], made.end
    newest = work.services.druid.newest(work.pipeline.name, "__time")
    computed = [*replay.figures.computed, *counts]
    ends = [ceiling(start + 1, segment) for start in computed]
    ends += [ceiling(newest + 1, segment)] if newest is not None else []
    open_end = work.scope.closed_at is None
    end = max(ends, default=0) if open_end else max([work.scope.end, *ends])
    end = max(end, ceiling(work.scope.start + 1, segment))
    asked = replace(replay.asked, wide_end=end) if open_end else replay.asked
    replay = replay.but(asked=asked, handover=replace(made, tail=counts, end=end))
    return replay, [*past, *([tail] if counts else [])], end


def _write_tail(work: Work, replay: Replay, file: Path) -> dict[int, Count]:
    """Write the new job's results before the noted offsets as lines; return rows and events of each segment."""
    topic, offsets = out_topic(work.pipeline.stream), handover(replay).offsets
    if not offsets:
        return {}
    # Nothing but retention takes the first results of a topic that was made for them.
    first = work.services.kafka.start_offsets(topic)
    gone = [f"partition {at} at offset {first[at]}" for at, end in sorted(offsets.items()) if end and first[at]]
    if gone:
        raise RefusedError(
            f"{topic} begins later than it did, results of the new job are gone: {', '.join(gone)}",
            hint=f"{give_up(replay)}; then upgrade again, and let it not lie for longer than the topic's retention",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    counts: dict[int, Count] = {}
    part = file.with_suffix(".part")
    with part.open("wb") as lines:
        for batch in work.services.kafka.read(topic, first, offsets):
            for record in batch:
                row = json.loads(record.value or b"")
                segment = floor(row["window_start"], work.pipeline.sink.segment)
                before = counts.get(segment, Count())
                counts[segment] = Count(before.rows + 1, before.events + row["_rows"])
                lines.write((record.value or b"") + b"\n")
    part.replace(file)
    return counts


def switch(work: Work, replay: Replay) -> Replay:
    """Let Druid go on with the new job's results, and the registry say so.

    A supervisor that reads the new topic and is not suspended has been switched: resetting it again would repeat rows.
    """
    druid, name, env = work.services.druid, work.pipeline.name, work.settings.env
    with publishing.locked(work, f"upgrade {name}"):
        guard_switch(work, replay)
        spec = supervisor_spec(work.pipeline, env)
        there = druid.supervisors().get(name)
        topic = out_topic(work.pipeline.stream)
        if there is None or there.suspended or there.topic != topic:
            druid.post_supervisor({**stamped(spec), "suspended": True})
            druid.reset(name)
            offsets = {partition: offset for partition, offset in handover(replay).offsets.items() if offset}
            if offsets:
                druid.reset_offsets(name, topic, offsets)
            druid.resume(name)
        made = make_site((work.pipeline,), work.services, work.settings, work.progress, work.timeout)
        await_supervisor(made, name)
        _keep_dead_letters(work, replay)
        old = made.record(name).job_id
        if old and old != new_job(work, replay).job_id:
            work.services.flink.cancel(
                old, timeout=work.timeout
            )  # somebody may have started it again: nothing reads it
        made.save(_record(work, replay, made.record(name)).but(supervisor=digest(spec), spec=public(spec)))
    return replay


def guard_switch(work: Work, replay: Replay) -> None:
    record = work.services.registry.read().get(work.pipeline.name)
    if record is None or record.version != replay.version or not record.launch:
        guard(work, replay)


def _record(work: Work, replay: Replay, record: Record) -> Record:
    job, source = new_job(work, replay), work.pipeline.source
    return record.but(
        status="running",
        version=job.version,
        run=handover(replay).run,
        job_id=job.job_id,
        restore=None,
        startup=SPECIFIC,
        savepoint=None,
        settings=settings_digest(work.pipeline, work.settings.env),
        source=source.name,
        key=source.key,
        partitions=source.partitions,
        declared=to_json(work.pipeline),
        launch=launch_to_json(work.pipeline.launch),
    )


def _keep_dead_letters(work: Work, replay: Replay) -> None:
    """Add what the replay found broken to the generation's dead letters, once: those before where its job reads."""
    topic, kafka = dlq_topic(work.pipeline.stream), work.services.kafka
    assert work.pipeline.launch is not None
    low = dict(work.pipeline.launch.low)
    letters = [it for it in dead_letters(work.folder(replay, replay.attempt)) if it["offset"] < low[it["partition"]]]
    if not letters:
        return
    env, name = work.settings.env.name, work.pipeline.stream
    size = work.pipeline.source.max_message_bytes * 2
    writer = kafka.transactional(f"penstock-{env}-{name}-dead-letters", max_message_bytes=size)
    try:
        # Looked at when the writer has the say: what an earlier one had open is ended by now.
        kept = {
            (int(headers["partition"]), int(headers["offset"]))
            for batch in kafka.read(topic, kafka.start_offsets(topic), kafka.end_offsets(topic, committed=True))
            for headers in (dict(record.headers) for record in batch)
        }
        missing = [it for it in letters if (it["partition"], it["offset"]) not in kept]
        for start in range(0, len(missing), 500):
            part = list(_letters(topic, work.pipeline.source.name, missing[start : start + 500]))
            writer.write(part, lambda offsets: ())
    finally:
        writer.close()


def _letters(topic: str, source: str, found: list[dict[str, object]]) -> Iterator[Outgoing]:
    for it in found:
        headers = {"topic": source, "partition": it["partition"], "offset": it["offset"], "timestamp": it["timestamp"]}
        headers["reason"] = it["reason"]
        value = None if it["bytes"] is None else base64.b64decode(str(it["bytes"]))
        encoded = [(key, str(value).encode()) for key, value in headers.items()]
        yield Outgoing(topic, int(str(it["partition"])), None, value, encoded)


def abandon(work: Work, replay: Replay) -> None:
    """Take the new generation away again: its job, its topics; Druid and the old job go on as before."""
    druid, name = work.services.druid, work.pipeline.name
    if handover(replay).launch is not None:
        drop_generation(replay, work.services, timeout=work.timeout)
    supervisor = druid.supervisors().get(name)
    if supervisor is not None and supervisor.suspended:
        druid.resume(name)
    record = work.services.registry.read().get(name)
    old = running(record) if record is not None else None
    if replay.was_running and record is not None and record.status in ("stopping", "stopped"):
        if old is None:
            raise PenstockError(
                f"{name}: what version {record.version} was started from was not noted",
                hint=f"take the change back, then `penstock start {name}`",
            )
        start(name, [old], work.services, work.settings, progress=work.progress, timeout=work.timeout)


def publish(work: Work, replay: Replay) -> Replay:
    """Replace everything from the range's start on by the past and the new job's results, in one transaction."""
    replay, files, end = publication(work, replay)
    return publishing.put(work, work.save(replay), lambda: guard(work, replay), files, end)
