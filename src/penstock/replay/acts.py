"""What the steps of a replay do with Kafka and Flink; `penstock.replay.publish` has those that act on Druid.

Each may be repeated: what a dead run has begun is found, not begun again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from penstock.errors import BusyError, PenstockError, RefusedError, UnavailableError, WaitTimeoutError
from penstock.flink.savepoint import source_offsets
from penstock.generation import deployed
from penstock.lifecycle import start, stop
from penstock.pipeline import Pipeline
from penstock.replay.derive import batch_job_id, batch_spec, replay_folder, verifier_id
from penstock.replay.facts import live, log_facts
from penstock.replay.read_ahead import Ahead
from penstock.replay.record import Cut, Replay, Settled, Sum
from penstock.replay.scope import EVER, Scope, utc
from penstock.replay.steps import Close, Compute, ways_on
from penstock.replay.verify import Log, dead_letters, read_log, verify
from penstock.services.flink import local
from penstock.services.protocols import KafkaService, Services
from penstock.settings import Settings
from penstock.settle import OPEN_HINT, transactions_ended, worked_off
from penstock.topics import consumer_group, dlq_topic, late_topic, out_topic
from penstock.wait import Pending, Progress, Silent, until

T = TypeVar("T")

#: Seconds between two requests to hand off: the supervisor acts on one when it next looks at its tasks (`period`).
ASK_EVERY = 6.0
#: Seconds that tasks must be seen in order where their predecessors' end was not seen: longer than that period.
STEADY = 6.0


@dataclass
class Work:
    """Where a replay runs.

    `timeout` is the seconds for each wait to see something change, `saved` what was noted last; `log` is the log as it
    is read to verify by, in advance where `read_ahead` says so.
    """

    pipeline: Pipeline
    scope: Scope
    services: Services
    settings: Settings
    progress: Progress = field(default_factory=Silent)
    timeout: float = 300
    steady: float = STEADY
    saved: Replay | None = None
    read_ahead: bool = False
    log: Ahead | None = None

    def of(self, replay: Replay) -> Work:
        """Return the same with the pipeline as a replay has it: as deployed, or as the generation that it brings."""
        if replay.handover is not None:
            return replace(self, pipeline=replace(self.pipeline, launch=replay.handover.launch))
        record = self.services.registry.read().get(self.pipeline.name)
        return replace(self, pipeline=deployed(self.pipeline, record))

    def save(self, replay: Replay) -> Replay:
        """Note a replay durably, and return it."""
        self.saved = self.outlast("the replay's record", lambda: self.services.replays.write(replay))
        return self.saved

    def outlast(self, subject: str, act: Callable[[], T]) -> T:
        """Do what can be repeated, and again where a service was away, or the environment locked: both pass.

        One that restarts is back within `timeout`.
        """
        ended: list[WaitTimeoutError] = []

        def probe() -> T | Pending | None:
            try:
                return act()
            except WaitTimeoutError as error:  # what it waited for has had its time
                ended.append(error)
                return None
            except BusyError as error:
                return Pending(error.message)

        interval = min(1.0, self.timeout / 10)
        done = until(subject, probe, timeout=self.timeout, interval=interval, progress=self.progress, patient=True)
        if done is None:
            raise ended[0]
        return done

    def folder(self, replay: Replay, attempt: int | None = None) -> Path:
        """Return where the files are, as a path: of one attempt, or of the whole replay."""
        uri = replay_folder(self.settings.env, replay.id)
        found = local(uri)
        if found is None:
            raise PenstockError(
                f"the files of a replay would be in {uri}, which is no directory of this machine",
                hint="flink.state must be a file: URI that Flink, Druid's indexers and this machine share",
            )
        return found if attempt is None else found / str(attempt)

    def until(self, subject: str, probe: Callable[[], bool | Pending], *, interval: float, hint: str = "") -> bool:
        return until(
            subject,
            probe,
            timeout=self.timeout,
            interval=interval,
            progress=self.progress,
            patient=True,
            hint=hint or None,
        )


def close(work: Work, replay: Replay, step: Close) -> Replay:
    """See that the windows have fired, and make that durable: a job that fails from here on never fires them again.

    A job that was restored between the look and the checkpoint may have gone back behind the windows: look again.
    """
    flink, name = work.services.flink, work.pipeline.name
    found: list[Replay] = []

    def probe() -> bool | Pending:
        record = work.services.registry.read().get(name)
        job = live(work.pipeline, record, work.services)
        if job.id is None:
            return Pending("its job does not run")
        before = flink.restored(job.id)
        watermark = flink.watermark(job.id)
        if watermark is None or watermark < step.closed_at:
            return Pending(f"its watermark is at {utc(watermark)}, windows close at {utc(step.closed_at + 1)}")
        try:
            checkpoint = flink.trigger_checkpoint(job.id, timeout=work.timeout)
        except PenstockError as error:
            return Pending(error.message)
        if flink.restored(job.id) != before:
            return Pending("its job was restored meanwhile")
        cut = Cut({}, {}, watermark=watermark, job_id=job.id)
        found.append(replay.but(cut=cut, settled=Settled(checkpoint, _path(work, job.id, checkpoint), {})))
        return True

    work.until(f"{name}: windows to {utc(work.scope.end)} closed", probe, interval=0.5)
    return found[0]


def _path(work: Work, job_id: str, checkpoint: int) -> str:
    """Return where the newest checkpoint is: that one, or one after it; Flink's figures may be a second behind."""

    def probe() -> str | Pending:
        newest = work.services.flink.latest_checkpoint(job_id)
        return newest[1] if newest and newest[0] >= checkpoint else Pending("not listed yet")

    subject = f"checkpoint {checkpoint} of job {job_id}"
    return until(subject, probe, timeout=work.timeout, interval=0.2, progress=work.progress)


def stop_live(work: Work, replay: Replay) -> Replay:
    """Stop the live job with a savepoint: rows that came after it could not be told from those that are replaced."""
    name = work.pipeline.name
    work.until(f"{name}: its job", partial(_can_stop, work), interval=0.25, hint="`penstock status`")
    stop(name, work.services, work.settings, progress=work.progress, timeout=work.timeout)
    record = work.services.registry.read()[name]
    if record.savepoint is None:
        raise PenstockError(
            f"{name}: its job left no savepoint, so where it stopped is not known", hint=f"`penstock start {name}`"
        )
    return replay.but(cut=Cut({}, {}, job_id=record.job_id, savepoint=record.savepoint))


def _can_stop(work: Work) -> bool | Pending:
    """One that is on its way back can take no savepoint; one that has ended needs none."""
    job = work.services.flink.job(work.services.registry.read()[work.pipeline.name].job_id)
    return job is None or not job.live or job.running or Pending(job.state.lower())


def cut_log(work: Work, replay: Replay) -> Replay:
    """Take the log's end as the cut, or where the stopped job's source stood."""
    kafka, topic = work.services.kafka, work.pipeline.source
    facts = log_facts(topic, work.scope, kafka)
    if facts.cut_off:
        raise RefusedError(f"{topic.name} no longer reaches back to {utc(work.scope.start)}")
    high: Mapping[int, int] = facts.end
    made = replay.cut or Cut({}, {})
    if made.savepoint is not None:
        folder = local(made.savepoint)
        if folder is None:
            raise PenstockError(f"the savepoint {made.savepoint} can't be read from this machine")
        first = kafka.start_offsets(topic.name)
        read = source_offsets(folder, topic.name, len(facts.end))
        high = {partition: first[partition] if offset is None else offset for partition, offset in read.items()}
    low = {partition: min(facts.low[partition], high[partition]) for partition in high}
    return replay.but(cut=Cut(low, dict(high), made.watermark, made.job_id, made.savepoint, topic.name))


def settle(work: Work, replay: Replay) -> Replay:
    """Wait until all that was written of the log before the cut is committed, and note the result topic's end."""
    kafka, name, stream = work.services.kafka, work.pipeline.name, work.pipeline.stream
    assert replay.cut is not None
    high = replay.cut.high
    if replay.cut.savepoint is None:
        passed = worked_off(kafka, consumer_group(work.settings.env.name, stream), work.pipeline.source.name, high)
        work.until(f"{name}: its job", passed, interval=0.25, hint="is it running?  `penstock status`")
    transactions_finished(work, stream)
    made = replay.settled or Settled(None, replay.cut.savepoint or "", {})
    return replay.but(settled=Settled(made.checkpoint, made.path, last_records(kafka, out_topic(stream))))


def transactions_finished(work: Work, stream: str) -> None:
    """Wait until every transaction that is in a job's topics by now has ended."""
    for topic in (out_topic(stream), late_topic(stream), dlq_topic(stream)):
        work.until(f"topic {topic}", transactions_ended(work.services.kafka, topic), interval=0.25, hint=OPEN_HINT)


def last_records(kafka: KafkaService, topic: str) -> dict[int, int]:
    """Return one past the last committed record of each partition that has one.

    Not the end of the log: that counts transaction markers, which no reader ever gets to see.
    """
    first, end = kafka.start_offsets(topic), kafka.end_offsets(topic, committed=True)
    found: dict[int, int] = {}
    back = 64
    while True:
        left = [partition for partition in end if partition not in found and first[partition] < end[partition]]
        low = {partition: max(first[partition], end[partition] - back) for partition in left}
        for batch in kafka.read(topic, low, {partition: end[partition] for partition in left}):
            for record in batch:
                found[record.partition] = max(found.get(record.partition, 0), record.offset + 1)
        if all(low[partition] == first[partition] for partition in left):
            return found
        back *= 16


def compute(work: Work, replay: Replay, step: Compute) -> Replay:
    """Run the bounded job to its end; one that runs or has ended well already is taken as it is."""
    env, flink = work.settings.env, work.services.flink
    cut = replay.cut
    assert cut is not None

    def identity() -> str:
        return batch_job_id(env.name, replay.id, replay.attempt)

    job = flink.job(identity()) if replay.attempt else None
    forgotten = job is None and replay.attempt > 0 and work.folder(replay, replay.attempt).exists()
    # One on its way to an end is given up too: its files are in a folder of its own.
    failed = job is not None and not job.live and job.state != "FINISHED"
    if replay.attempt == 0 or forgotten or failed:
        # What an attempt has left half written is never mixed with another's.
        replay = work.save(replay.but(attempt=replay.attempt + 1))
        job = None
    if job is None:
        spec = batch_spec(
            work.pipeline,
            env,
            work.scope,
            replay=replay.id,
            attempt=replay.attempt,
            low=cut.low,
            cut=cut.high,
            parallelism=replay.parallelism,
            rate=step.rate,
            dead=before_its_letters(work, replay),
        )
        work.services.submit_batch(work.settings, spec, work.progress)
    work.log = work.log or _read_ahead(work, replay)
    total = sum(max(0, end - cut.low[partition]) for partition, end in cut.high.items())
    pace = _Pace(total, work.scope)
    missed = 0.0

    def probe() -> bool | Pending:
        nonlocal missed
        job, now = flink.job(identity()), time.monotonic()
        missed = 0.0 if job is not None else missed or now
        if job is None:
            # A JobManager that was killed takes up again what it knew, but for jobs that had ended.
            return Pending("not known to Flink") if now - missed < work.steady else False
        if job.state == "FINISHED":
            return True
        if not (job.live or job.leaving):
            reason = flink.root_exception(job.id) or "Flink gives no reason"
            raise PenstockError(f"{job.name} is {job.state}: {reason}", hint=ways_on(replay))
        return Pending(f"{job.state.lower()}, {pace.words(flink.records_read(job.id))}")

    if not work.until(f"computing {work.pipeline.name}", probe, interval=0.5, hint=ways_on(replay)):
        raise UnavailableError(
            f"Flink has forgotten the computation of {replay.id}: its JobManager was restarted", hint=ways_on(replay)
        )
    return replay.but(figures=replace(replay.figures, read=total))


class _Pace:
    """How fast the log is read, in words: rows, rows a second, times real time, seconds left."""

    def __init__(self, total: int, scope: Scope) -> None:
        # A range without an end has no length to compare with.
        self._total, self._span = total, 0 if scope.end >= EVER else (scope.end - scope.start) / 1000
        self._started: float | None = None

    def words(self, read: int) -> str:
        if read <= 0:
            return f"0 of {self._total:,} records"
        now = time.monotonic()
        if self._started is None:
            self._started = now
        seconds = now - self._started
        text = f"{min(read, self._total):,} of {self._total:,} records"
        if seconds < 1:
            return text
        rate = read / seconds
        left = max(0, self._total - read) / rate
        times = self._span * (read / max(self._total, 1)) / seconds
        beside = f", {times:,.0f} x real time" if times else ""
        return f"{text}, {rate:,.0f}/s{beside}, {left:,.0f} s left"


def verify_files(work: Work, replay: Replay) -> Replay:
    """Compare the files with the log."""
    files, there = work.folder(replay, replay.attempt), work.log and work.log.result(work.progress)
    # What was read ahead serves one comparison: the next one reads anew.
    work.log = None
    log = there or _read_log(work, replay, work.progress)
    done = verify(work.pipeline, work.scope, log, files, work.progress)
    sums = {name: Sum(computed=value) for name, value in done.sums.items()}
    return replay.but(figures=replace(replay.figures, computed=done.computed, compared=done.compared, sums=sums))


def _read_log(work: Work, replay: Replay, show: Progress) -> Log:
    assert replay.cut is not None
    return read_log(
        work.pipeline,
        work.scope,
        work.services.kafka,
        replay.cut.low,
        replay.cut.high,
        show,
        broken=dead_letters(work.folder(replay, replay.attempt)) if before_its_letters(work, replay) else None,
        rate=replay.asked.rate,
        client_id=verifier_id(work.settings.env, work.pipeline),
    )


def before_its_letters(work: Work, replay: Replay) -> bool:
    """True where the generation's dead-letter topic does not reach back to the range: the bounded job tells then."""
    launch = work.pipeline.launch
    return replay.handover is not None or (launch is not None and work.scope.start < launch.since)


def _read_ahead(work: Work, replay: Replay) -> Ahead | None:
    """Read the log to verify by while Flink computes: for most of a replay's time both wait for the other.

    Not where the brokers are to be spared, nor before the bounded job has told which records can't be read.
    """
    spared = replay.asked.rate is not None or work.settings.env.kafka.replay_bytes_per_second is not None
    if not work.read_ahead or spared or before_its_letters(work, replay):
        return None
    return Ahead(lambda show: _read_log(work, replay, show))


def resume(work: Work, replay: Replay) -> Replay:
    """Start the live job from its savepoint; one that was stopped before the replay stays so."""
    if replay.was_running:
        start(
            work.pipeline.name,
            [work.pipeline],
            work.services,
            work.settings,
            progress=work.progress,
            timeout=work.timeout,
        )
    return replay


def clean(work: Work, replay: Replay) -> None:
    """Delete a replay's files."""
    shutil.rmtree(work.folder(replay), ignore_errors=True)
