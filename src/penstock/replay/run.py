"""Replay: plan it, run its steps, give it up.  The algorithm is the list in `penstock.replay.steps`.

    look, plan       what would be done, in words and numbers, and all that refuses it
    run              each step in order, noted when it is done
Run again with the same id it goes on where it died; run when it is done, it changes nothing.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import assert_never

from penstock.errors import DeclarationError, NotEqualError, PenstockError, RefusedError
from penstock.flink.spec import version
from penstock.generation import deployed, running
from penstock.lock import only_one
from penstock.pipeline import Pipeline
from penstock.replay import acts, ends, launch
from penstock.replay import publish as publishing
from penstock.replay.acts import STEADY, Work
from penstock.replay.derive import batch_job_id, task_id
from penstock.replay.facts import Facts, look, not_ended
from penstock.replay.record import EMPTY, Asked, Replay
from penstock.replay.scope import Scope, widened
from penstock.replay.steps import (
    Begin,
    CatchUp,
    Check,
    Close,
    Compute,
    CutLog,
    HandOff,
    HandOver,
    Plan,
    Publish,
    Receipt,
    Resume,
    Settle,
    Step,
    Stop,
    Switch,
    Verify,
    in_the_way,
    plan,
    steps,
    ways_on,
)
from penstock.services.protocols import Services
from penstock.services.registry import signature
from penstock.settings import Settings
from penstock.wait import Progress, Silent

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


def new_id(pipeline: str) -> str:
    """Return an id that tells pipeline and time, and is nobody else's: what makes it so is not cut off."""
    return f"{pipeline[:50]}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def checked_id(name: str) -> str:
    """Return a replay's id; raise DeclarationError for one that can't be a file's or a task's name."""
    if not _ID.fullmatch(name):
        hint = "letters, digits, - and _, at most 80, such as fix-of-monday"
        raise DeclarationError(f"--id {name!r} can't be a replay's id", hint=hint)
    return name


def asked(
    scope: Scope, *, dry_run: bool, rate: float | None, reason: str, allow: Collection[str] = frozenset()
) -> Asked:
    """Return what was asked for, with who asks and when."""
    by, at = signature()
    first, last = scope.asked
    empty = EMPTY in allow
    return Asked(first, last, scope.start, scope.end, dry_run, rate, reason, by, at, empty_segments=empty)


def prepare(
    pipeline: Pipeline, scope: Scope, request: Asked, services: Services, settings: Settings, *, id: str | None = None
) -> Plan:
    """Look, and return the plan of a new replay.  Changes nothing."""
    name = checked_id(id or new_id(pipeline.name))
    record = services.registry.read().get(pipeline.name)
    pipeline = deployed(pipeline, record)
    facts = look(pipeline, scope, services)
    replay = Replay(
        id=name,
        pipeline=pipeline.name,
        version=version(pipeline),
        asked=request,
        parallelism=_parallelism(pipeline, settings, facts),
        was_running=record is not None and record.to_run,
        generation=pipeline.launch.generation if pipeline.launch else 0,
    )
    return plan(pipeline, scope, replay, facts)


def _parallelism(pipeline: Pipeline, settings: Settings, facts: Facts) -> int:
    """The live job's, in slots of its own: no more than are free."""
    wanted = pipeline.parallelism or settings.env.flink.parallelism
    return max(1, min(wanted, pipeline.source.partitions, facts.slots))


def refuse(made: Plan) -> None:
    """Raise RefusedError with everything that stands against the plan; nothing has been stopped yet."""
    if made.refused:
        what = "replayed" if made.replay.handover is None else "upgraded"
        lines = "\n".join(item.reason for item in made.refused)
        hints = "\n  ".join(dict.fromkeys(item.hint for item in made.refused))
        raise RefusedError(f"{made.replay.pipeline} can't be {what} now; nothing was done\n{lines}", hint=hints)


def run(
    pipeline: Pipeline,
    replay: Replay,
    services: Services,
    settings: Settings,
    *,
    progress: Progress | None = None,
    timeout: float = 300,
    steady: float = STEADY,
    through: str | None = None,
) -> Replay:
    """Run the steps of a replay that are not done yet, and return its receipt.

    `timeout` is the seconds for each wait to see something change; `through` is the kind of the last step to run, None
    for all; one that this replay does not have is RefusedError.  Raises RefusedError where another process runs it or
    its ground has changed, NotEqualError where figures differ; run again with the same id it goes on from there.
    """
    scope = widened(pipeline, replay.asked.start, replay.asked.end)
    with only_one(settings, replay.id):
        replay = services.replays.read().get(replay.id, replay)
        work = Work(pipeline, scope, services, settings, progress or Silent(), timeout, steady).of(replay)
        if replay.status != "running":
            return replay
        if replay.version != version(pipeline):
            raise RefusedError(
                f"replay {replay.id} was begun with version {replay.version}, {version(pipeline)} is declared",
                hint=f"take the change back, or `penstock replays --abandon {replay.id}`",
            )
        # Nothing tells whether Druid's tasks are still what they were when an earlier run saw them hand off.
        if Publish.kind not in replay.done:
            replay = replay.but(done=tuple(kind for kind in replay.done if kind != HandOff.kind))
        replay = _noted(work, replay)
        todo = _through(work, replay, through)
        # Steps that are run one by one, as tasks, share no memory.
        work = replace(work, read_ahead=any(step.kind == Verify.kind for step in todo))
        try:
            for number, step in enumerate(todo, start=1):
                if step.kind in replay.done:
                    continue
                work.progress.update(f"{number}/{len(todo)} {step.kind}")
                started = time.monotonic()
                try:
                    replay = _outlasting(work, replay, step)
                except PenstockError as error:
                    _tell(work, work.saved or replay, step, error)
                    raise
                took = round(replay.seconds.get(step.kind, 0) + time.monotonic() - started, 3)
                replay = replay.but(done=(*replay.done, step.kind), seconds={**replay.seconds, step.kind: took})
                replay = work.save(replay)
                work = work.outlast("the registry", partial(work.of, replay))
        finally:
            if work.log is not None:
                work.log.stop()
    return replay


def _noted(work: Work, replay: Replay) -> Replay:
    """Note a replay that begins.  Raises RefusedError where one of its range was begun since it was planned.

    Of two that were planned at once the one with the older cut could publish last: late events between the cuts would
    be lost, and taken for healed.
    """
    if replay.asked.dry_run or work.services.replays.read().get(replay.id) is not None:
        return work.save(replay)
    with publishing.locked(work, f"replay --id {replay.id}"):
        for other in in_the_way(work.scope, replay, not_ended(replay.pipeline, work.services)):
            raise RefusedError(
                f"{'upgrade' if other.handover else 'replay'} {other.id} of the same range was begun meanwhile",
                hint=ways_on(other),
            )
        return work.save(replay)


def note(pipeline: Pipeline, replay: Replay, services: Services, settings: Settings, *, timeout: float = 300) -> Replay:
    """Note a replay that begins, for one that will run its steps.  Raises RefusedError as `run` does."""
    scope = widened(pipeline, replay.asked.start, replay.asked.end)
    return _noted(Work(pipeline, scope, services, settings, timeout=timeout), replay)


def _tell(work: Work, replay: Replay, step: Step, error: PenstockError) -> None:
    """Add to an error what becomes of the replay.

    One whose figures were not proved is given up: compared again they would be the same, and until then it stood in the
    way of others, or its live job still.
    """
    done = {*replay.done, step.kind}
    still = Stop.kind in done and replay.was_running and Resume.kind not in replay.done
    still = (still or HandOver.kind in done) and Switch.kind not in replay.done
    if step.kind == Verify.kind and isinstance(error, (NotEqualError, RefusedError)):
        keep = isinstance(error, NotEqualError)
        work.outlast(f"giving up {replay.id}", lambda: _give_up(work, replay, keep_files=keep))
        more = f"{replay.id} is given up" + (f", and {replay.pipeline}'s job goes on" if still else "")
    elif still:
        more = f"{replay.pipeline}'s job stands still until then: {ways_on(replay)}"
    else:
        return
    error.hint = "; ".join(filter(None, (error.hint, more)))


def steps_of(pipeline: Pipeline, replay: Replay) -> list[Step]:
    """Return the steps of a replay that was begun."""
    low, high = (replay.cut.low, replay.cut.high) if replay.cut else ({}, {})
    return steps(pipeline, widened(pipeline, replay.asked.start, replay.asked.end), replay, low, high)


def _through(work: Work, replay: Replay, last: str | None) -> list[Step]:
    todo = steps_of(work.pipeline, replay)
    kinds = [step.kind for step in todo]
    if last is None:
        return todo
    if last not in kinds:
        raise RefusedError(f"replay {replay.id} has no step {last!r}", hint=f"its steps: {', '.join(kinds)}")
    return todo[: kinds.index(last) + 1]


def _outlasting(work: Work, replay: Replay, step: Step) -> Replay:
    """Carry out one step; where a service was away in it, again from what was noted last, as after a death."""
    return work.outlast(f"step {step.kind}", lambda: run_step(work, work.saved or replay, step))


def run_step(work: Work, replay: Replay, step: Step) -> Replay:
    """Carry out one step, and return what is known after it."""
    match step:
        case Close():
            return acts.close(work, replay, step)
        case Stop():
            return acts.stop_live(work, replay)
        case CutLog() if replay.handover is not None:
            return launch.cut(work, replay)
        case CutLog():
            return acts.cut_log(work, replay)
        case Begin():
            return launch.begin(work, replay)
        case CatchUp():
            return launch.catch_up(work, replay)
        case HandOver():
            return launch.hand_over(work, replay)
        case Switch():
            return launch.switch(work, replay)
        case Settle():
            replay = acts.settle(work, replay)
            return replay if replay.asked.dry_run else publishing.ask_hand_off(work, replay)
        case Compute():
            return acts.compute(work, replay, step)
        case Verify():
            replay = publishing.before(work, acts.verify_files(work, replay))
            publishing.refuse_emptied(work, replay)
            return replay
        case HandOff():
            return publishing.hand_off(work, replay)
        case Publish() if replay.handover is not None:
            return launch.publish(work, replay)
        case Publish():
            return publishing.publish(work, replay)
        case Check():
            return publishing.check(work, replay)
        case Resume():
            return acts.resume(work, replay)
        case Receipt():
            acts.clean(work, replay)
            return replay.but(status="dry" if replay.asked.dry_run else "done", ended=_now())
        case _:
            assert_never(step)


def abandon(
    pipeline: Pipeline | None,
    replay: Replay,
    services: Services,
    settings: Settings,
    *,
    progress: Progress | None = None,
    timeout: float = 300,
) -> Replay:
    """Give up a replay: its job cancelled, its files deleted, the live job running again.

    What it has published stays, unchecked, and heals nothing: the way out where a check goes on failing is to give up
    and replay again.  `pipeline` is its declaration, for what the registry does not tell; None where it is declared no
    more.  Raises RefusedError while Druid is publishing it.
    """
    with only_one(settings, replay.id):
        replay = services.replays.read().get(replay.id, replay)
        if replay.status != "running":
            return replay
        state = services.druid.task_state(task_id(settings.env.name, replay.id, replay.task)) if replay.task else None
        if state == "RUNNING":
            raise RefusedError(
                f"replay {replay.id} is being published", hint=f"`penstock replay --id {replay.id}` finishes it"
            )
        if replay.handover is not None and replay.task:
            raise RefusedError(
                f"upgrade {replay.id} has begun to replace what was there",
                hint=f"`penstock upgrade {replay.pipeline}` finishes it",
            )
        # What ran goes on, whatever is declared by now.
        record = services.registry.read().get(replay.pipeline)
        pipeline = (running(record) if record is not None else None) or pipeline
        if pipeline is None:
            return ends.end(replay, services, settings, timeout=timeout)
        scope = widened(pipeline, replay.asked.start, replay.asked.end)
        return _give_up(Work(pipeline, scope, services, settings, progress or Silent(), timeout).of(replay), replay)


def _give_up(work: Work, replay: Replay, *, keep_files: bool = False) -> Replay:
    services, env = work.services, work.settings.env
    if replay.attempt:
        services.flink.cancel(batch_job_id(env.name, replay.id, replay.attempt), timeout=work.timeout)
    if not keep_files:
        acts.clean(work, replay)
    if replay.handover is not None and not replay.asked.dry_run:
        launch.abandon(work, replay)
    elif work.scope.closed_at is None and not replay.asked.dry_run:
        # What ran goes on, whatever is declared by now.
        record = services.registry.read().get(replay.pipeline)
        if record is not None and record.status not in ("removing", "removed"):
            acts.resume(replace(work, pipeline=running(record) or work.pipeline), replay)
    return work.save(replace(replay, status="abandoned", ended=_now()))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
