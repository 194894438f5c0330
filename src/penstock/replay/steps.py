"""The steps of a replay, and what refuses one: plain frozen data, printed and run from the same list.  Pure.

close     the live job's windows of the range have fired, and a checkpoint holds that
stop      (without windows) the live job is stopped with a savepoint: its offsets are the cut
cut       the log's end: what comes later for the range is late to the live job, so it is never counted twice
settle    the job is past the cut, its transactions are finished, the end of the result topic is known
compute   the range anew, by a bounded job, into files
verify    the files against the log, and against what is live; a dry run ends after it
hand off  Druid's running tasks have published what they hold: rows that they still held would be counted twice
publish   one Druid task replaces the segments
check     Druid's figures are the computed ones
resume    (without windows) the live job goes on from its savepoint
receipt   what was done, for good; the files are deleted

A new generation (`penstock.replay.launch`) has four of its own in the place of close, settle, hand off and resume:

launch    the new job begins beside the old one, in topics of its own
catch up  it has read what the old one has
hand over the old job stops, Druid has published what that one wrote, and is suspended
switch    Druid goes on with the new job's results
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import ClassVar, assert_never

from penstock.durations import format_duration, millis
from penstock.pipeline import Aggregate, Pipeline
from penstock.replay.facts import Facts
from penstock.replay.record import Replay
from penstock.replay.scope import Scope, segments, utc
from penstock.segments import floor

#: Measured on two cores (docs/bench.md, docs/kappa.md), to tell how long a replay will take: rows a second of a job in
#: batch, and of DuckDB beyond what it has read while that ran; seconds to submit, to close, settle and publish, and for
#: a new generation to launch, hand over and switch.
ROWS_PER_SECOND = 900_000
VERIFIED_PER_SECOND = 800_000
SUBMIT_SECONDS = 6
PUBLISH_SECONDS = 11
LAUNCH_SECONDS = 21


@dataclass(frozen=True)
class Close:
    kind: ClassVar[str] = "close"
    closed_at: int


@dataclass(frozen=True)
class Stop:
    kind: ClassVar[str] = "stop"


@dataclass(frozen=True)
class CutLog:
    """`low` and `high` per partition; `high` is as of the plan, the cut itself is taken when the step runs."""

    kind: ClassVar[str] = "cut"
    low: Mapping[int, int]
    high: Mapping[int, int]


@dataclass(frozen=True)
class Settle:
    kind: ClassVar[str] = "settle"


@dataclass(frozen=True)
class Compute:
    kind: ClassVar[str] = "compute"
    rows: int
    parallelism: int
    rate: float | None


@dataclass(frozen=True)
class Verify:
    kind: ClassVar[str] = "verify"


@dataclass(frozen=True)
class HandOff:
    kind: ClassVar[str] = "hand off"


@dataclass(frozen=True)
class Publish:
    kind: ClassVar[str] = "publish"
    segments: int


@dataclass(frozen=True)
class Check:
    kind: ClassVar[str] = "check"


@dataclass(frozen=True)
class Resume:
    kind: ClassVar[str] = "resume"


@dataclass(frozen=True)
class Receipt:
    kind: ClassVar[str] = "receipt"


@dataclass(frozen=True)
class Begin:
    """The new job reads from `low`; windows from `boundary` on are its own (None: all that comes after the cut)."""

    kind: ClassVar[str] = "launch"
    boundary: int | None
    parallelism: int


@dataclass(frozen=True)
class CatchUp:
    kind: ClassVar[str] = "catch up"


@dataclass(frozen=True)
class HandOver:
    kind: ClassVar[str] = "hand over"


@dataclass(frozen=True)
class Switch:
    kind: ClassVar[str] = "switch"


Step = (
    Close
    | Stop
    | CutLog
    | Settle
    | Compute
    | Verify
    | HandOff
    | Publish
    | Check
    | Resume
    | Receipt
    | Begin
    | CatchUp
    | HandOver
    | Switch
)


@dataclass(frozen=True)
class Refusal:
    """Why there can be no replay (now), and the way out."""

    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.hint}"


@dataclass(frozen=True)
class Plan:
    """What would be done, in order.  `refused` where it can't be."""

    replay: Replay
    scope: Scope
    steps: tuple[Step, ...]
    refused: tuple[Refusal, ...] = ()


def steps(
    pipeline: Pipeline, scope: Scope, replay: Replay, low: Mapping[int, int], high: Mapping[int, int]
) -> list[Step]:
    """Return the steps of a replay.  A pass-through pipeline's live job stands still while its rows are replaced."""
    rows = sum(max(0, high[partition] - low.get(partition, 0)) for partition in high)
    windowed = scope.closed_at is not None
    dry = replay.asked.dry_run
    if replay.handover is not None:
        return _handover_steps(pipeline, scope, replay, low, high, rows)
    found: list[Step] = []
    if scope.closed_at is not None:
        found.append(Close(scope.closed_at))
    elif not dry:
        found.append(Stop())
    found += [CutLog(low, high), Settle(), Compute(rows, replay.parallelism, replay.asked.rate), Verify()]
    if not dry:
        found += [HandOff(), Publish(len(segments(pipeline, scope.start, scope.end))), Check()]
        found += [] if windowed else [Resume()]
    return [*found, Receipt()]


def _handover_steps(
    pipeline: Pipeline, scope: Scope, replay: Replay, low: Mapping[int, int], high: Mapping[int, int], rows: int
) -> list[Step]:
    windowed, dry = scope.closed_at is not None, replay.asked.dry_run
    past: list[Step] = [Compute(rows, replay.parallelism, replay.asked.rate), Verify()]
    if dry:
        return [CutLog(low, high), *past, Receipt()]
    begin = Begin(scope.end if windowed else None, pipeline.parallelism or 0)
    found: list[Step] = [CutLog(low, high), begin, *past]
    if not windowed and replay.was_running:
        # Rows have no windows to tell whose they are: the old job's end does.
        found.insert(0, Stop())
    found += [CatchUp()] if windowed else []
    # How many segments there are is known when the old job has stopped.
    return [*found, HandOver(), Publish(0), Check(), Switch(), Receipt()]


def plan(pipeline: Pipeline, scope: Scope, replay: Replay, facts: Facts) -> Plan:
    """Return the steps of a new replay, and all that refuses it."""
    return plan_of(pipeline, scope, replay, facts, refusals(pipeline, scope, replay, facts))


def plan_of(pipeline: Pipeline, scope: Scope, replay: Replay, facts: Facts, refused: Sequence[Refusal]) -> Plan:
    """Return the plan of a new replay with what refuses it."""
    made = steps(pipeline, scope, replay, facts.log.low, facts.log.end)
    return Plan(replay, scope, tuple(made), tuple(refused))


def refusals(pipeline: Pipeline, scope: Scope, replay: Replay, facts: Facts) -> list[Refusal]:
    """Return everything that stands against a replay."""
    found = []
    if facts.foreign is not None:
        found.append(Refusal(facts.foreign, "`penstock apply` makes it ours; a datasource of others is never replaced"))
    found += _of_the_job(pipeline, scope, replay, facts)
    found += log_refusals(pipeline, facts)
    found += unfinished(replay, in_the_way(scope, replay, facts.others))
    if facts.slots < 1 and not facts.stops_live(scope, replay):
        way = "stop a job, or raise taskmanager.numberOfTaskSlots"
        found.append(Refusal("Flink has no free slot for the computation", way))
    if facts.suspended and not replay.asked.dry_run:
        way = "`penstock apply` resumes it"
        found.append(Refusal(f"Druid's supervisor {pipeline.name} is suspended: its rows can't be handed off", way))
    return found


def in_the_way(scope: Scope, replay: Replay, others: Sequence[Replay]) -> list[Replay]:
    """Return those of a pipeline's replays that have not ended beside which this one can't run.

    A new generation replaces everything from its start on, so that it stands beside none.
    """
    alone = scope.closed_at is None or replay.handover is not None
    return [it for it in others if alone or it.handover or it.overlaps(scope.start, scope.end)]


def unfinished(replay: Replay, others: Sequence[Replay]) -> list[Refusal]:
    """Return what other replays that have not ended stand in the way of this one."""
    found = []
    for other in others:
        if other.id == replay.id or replay.asked.dry_run:
            continue
        span = f"{utc(other.asked.wide_start)} to {utc(other.asked.wide_end)}"
        if other.handover is not None:
            span = f"from {utc(other.asked.wide_start)} on"
        reason = f"{'upgrade' if other.handover else 'replay'} {other.id} of {span} is not finished"
        found.append(Refusal(reason, ways_on(other)))
    return found


def ways_on(replay: Replay) -> str:
    """Say how a replay that has not ended is ended."""
    finish = f"penstock replay --id {replay.id}" if replay.handover is None else f"penstock upgrade {replay.pipeline}"
    return f"`{finish}` goes on with it, `penstock replays --abandon {replay.id}` gives it up"


def _of_the_job(pipeline: Pipeline, scope: Scope, replay: Replay, facts: Facts) -> list[Refusal]:
    live = facts.live
    if facts.foreign is not None:
        return []
    if scope.closed_at is None:
        if live.id is None and replay.asked.dry_run:
            return [Refusal("its job does not run", f"`penstock start {pipeline.name}`")]
        return _version(pipeline, replay, facts)
    if live.coming:
        way = f"wait until it runs: `penstock status {pipeline.name}`"
        return [Refusal(f"its job is {live.coming}, so that no window closes", way)]
    if live.id is None:
        way = f"`penstock start {pipeline.name}` or `penstock apply` starts it"
        return [Refusal("its job does not run, so that no window closes", way)]
    found = _version(pipeline, replay, facts)
    if live.watermark is None or live.watermark < scope.closed_at:
        reason = f"windows of the range are still open: the watermark is at {utc(live.watermark)}"
        way = closes(pipeline, scope.closed_at)
        closed = _closed_until(pipeline, live.watermark)
        if closed is not None and closed > scope.start:
            way += f"; --to {utc(closed)} is possible now"
        found.append(Refusal(reason, way))
    return found


def closes(pipeline: Pipeline, closed_at: int) -> str:
    """Say when windows that have fired by a watermark close.  It trails the newest event by the bound."""
    newest = closed_at + 1 + millis(pipeline.source.out_of_orderness)
    return (
        f"they close at {utc(closed_at + 1)}, when events dated {utc(newest)} have been read in every "
        f"partition (or it is silent for {format_duration(_delta(pipeline.source.idle_after))})"
    )


def _version(pipeline: Pipeline, replay: Replay, facts: Facts) -> list[Refusal]:
    if not facts.live.version or facts.live.version == replay.version:
        return []
    reason = f"version {facts.live.version} runs, {replay.version} is declared: the past would not fit the present"
    return [Refusal(reason, "`penstock plan` shows what changed; apply it, or take the change back")]


def _closed_until(pipeline: Pipeline, watermark: int | None) -> int | None:
    """The end of the last segment all of whose windows have fired."""
    transform = pipeline.transform
    if watermark is None or not isinstance(transform, Aggregate):
        return None
    size, slide = millis(transform.window.size), millis(transform.window.slide)
    return floor(watermark + 1 - size + slide, pipeline.sink.segment)


def log_refusals(pipeline: Pipeline, facts: Facts) -> list[Refusal]:
    """Return what retention has taken of the range."""
    if not facts.log.cut_off:
        return []
    known = [stamp for stamp in facts.log.cut_off.values() if stamp is not None]
    since = f"partitions {', '.join(map(str, facts.log.cut_off))} of {pipeline.source.name} begin later than the range"
    first = f" (at {utc(max(known))})" if known else ""
    reason = f"the log is too short: {since}{first}; what was removed could not be counted again"
    return [Refusal(reason, "choose a later --from; a longer `retention` keeps more from now on")]


def _delta(value: timedelta | str) -> timedelta:
    assert isinstance(value, timedelta)
    return value


def words(step: Step) -> str:
    """Return a step in words and numbers."""
    match step:
        case Close():
            return f"windows up to {utc(step.closed_at + 1)} have fired; a checkpoint makes that durable"
        case Stop():
            return "stop the live job with a savepoint; Kafka buffers meanwhile"
        case CutLog():
            spans = ", ".join(f"{p}: {step.low.get(p, 0):,} to {high:,}" for p, high in sorted(step.high.items()))
            return f"the log, by partition and offset: {spans}"
        case Settle():
            return "the live job past the cut, its transactions finished"
        case Compute():
            rate = f"at most {step.rate:,.0f} rows/s, " if step.rate else ""
            return f"{step.rows:,} records, {rate}parallelism {step.parallelism}, about {_seconds(step):,.0f} s"
        case Verify():
            return "compare with the log by DuckDB, and with what is live"
        case HandOff():
            return "Druid's running tasks publish what they hold"
        case Publish() if not step.segments:
            return "replace all segments from there on in one transaction"
        case Publish():
            return f"replace {step.segments:,} segment{'s' * (step.segments != 1)} in one transaction"
        case Check():
            return "Druid's figures are the computed ones, or an alarm"
        case Resume():
            return "start the live job from its savepoint"
        case Begin() if step.boundary is None:
            return "start the new job at the cut, in topics of its own"
        case Begin():
            return (
                f"start the new job beside the old one, for windows from {utc(step.boundary)} on, in topics of its own"
            )
        case CatchUp():
            return "the new job has read what the old one has"
        case HandOver():
            return "stop the old job; Druid publishes what it wrote, and waits"
        case Switch():
            return "Druid goes on with the new job's results"
        case Receipt():
            return "note what was done; delete the files"
        case _:
            assert_never(step)


def expected_seconds(plan: Plan) -> float:
    """Return about how long it will take, by what was measured."""
    compute = sum(
        _seconds(step) + _reading(step, VERIFIED_PER_SECOND) for step in plan.steps if isinstance(step, Compute)
    )
    launch = LAUNCH_SECONDS if any(isinstance(step, Begin) for step in plan.steps) else 0
    return compute + launch + (0 if plan.replay.asked.dry_run else PUBLISH_SECONDS)


def _seconds(step: Compute) -> float:
    return SUBMIT_SECONDS + _reading(step, ROWS_PER_SECOND)


def _reading(step: Compute, at_most: float) -> float:
    return step.rows / min(step.rate or at_most, at_most)


def as_json(step: Step) -> dict[str, object]:
    return {"step": step.kind, "words": words(step)} | {item.name: getattr(step, item.name) for item in fields(step)}
