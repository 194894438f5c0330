"""What the steps of a replay do with Druid: hand off, publish, check.  Each may be repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from penstock.druid import supervisor_spec
from penstock.errors import NotEqualError, PenstockError, RefusedError, UnavailableError
from penstock.lock import environment_lock
from penstock.replay.acts import ASK_EVERY, Work
from penstock.replay.derive import publish_spec, task_id
from penstock.replay.record import Count, Replay
from penstock.replay.scope import utc
from penstock.replay.steps import ways_on
from penstock.replay.verify import files_in
from penstock.topics import out_topic
from penstock.wait import Pending

#: What Druid says of a task that was not the cause of its own end: its indexer is new, or went away before it began.
LOST = ("disappeared", "did not start it in timeout")


def totals(work: Work, end: int | None = None) -> dict[int, Count]:
    """Return what Druid has of the range (up to another `end`), by segment."""
    scope, sink = work.scope, work.pipeline.sink
    found = work.services.druid.totals(work.pipeline.name, scope.start, end or scope.end, sink.segment)
    return {start: Count(rows, events) for start, (rows, events) in sorted(found.items())}


def before(work: Work, replay: Replay) -> Replay:
    """Note what Druid has of the range before anything is replaced: counts, and the sums of its measures."""
    scope, figures = work.scope, replay.figures
    live = work.services.druid.sums(work.pipeline.name, scope.start, scope.end, list(figures.sums))
    sums = {name: replace(item, before=live.get(name)) for name, item in figures.sums.items()}
    counts = totals(work)
    if work.pipeline.sink.measures:  # rolled up further or less, the same events are no change
        same = {it: count for it, count in figures.computed.items() if counts.get(it, Count()).events == count.events}
        counts |= {it: count for it, count in same.items() if it in counts}
    return replay.but(figures=replace(figures, before=counts, sums=sums))


def refuse_emptied(work: Work, replay: Replay) -> None:
    """Raise RefusedError where segments would be left empty that Druid has rows of, unless that was asked for.

    A topic that was made anew holds nothing of the past: by its log the past is empty, and that would be published.
    """
    counts = replay.figures.computed
    gone = {at: it for at, it in replay.figures.before.items() if it.events and not counts.get(at, Count()).events}
    if not gone or replay.asked.dry_run or replay.asked.empty_segments:
        return
    first = min(gone)
    more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
    raise RefusedError(
        f"{work.pipeline.name}: the log gives no row for segment {utc(first)} ({gone[first].events:,} events in Druid)"
        f"{more}: it would be left empty; nothing was published",
        hint="was the topic made anew since?  a later --from keeps what Druid has; `--allow empty-segments` lets it go",
    )


def hand_off(work: Work, replay: Replay) -> Replay:
    """Wait until Druid's tasks have published every row up to the settled end of the result topic.

    A task that began past that end holds no row of the range.  Where its predecessors' success was not seen (one that
    fails is begun again, further back), that must be so for longer than the supervisor takes to notice.
    """
    guard(work, replay)
    assert replay.settled is not None
    out = out_topic(work.pipeline.stream)
    ends = work.services.kafka.end_offsets(out, committed=True)
    if any(ends.get(partition, 0) < end for partition, end in replay.settled.out.items()):
        raise RefusedError(
            f"replay {replay.id} can't be published: topic {out} was made anew since", hint=ways_on(replay)
        )
    await_hand_off(work, replay.settled.out, replay.settled.held)
    return replay


def await_hand_off(work: Work, wanted: Mapping[int, int], held: Sequence[str] = ()) -> None:
    """Wait until Druid's tasks, `held` among them, have published every row before the offsets `wanted`."""
    druid, name = work.services.druid, work.pipeline.name
    groups = _groups(work)
    asked, since, before = 0.0, 0.0, set(held)

    def probe() -> bool | Pending:
        nonlocal asked, since
        reading, now = druid.reading(name), time.monotonic()
        before.update(reading.publishing)
        behind = [task for task, starts in reading.active.items() if _behind(starts, wanted)]
        before.update(behind)
        if reading.publishing or behind or not _covered(reading.active, wanted):
            since = 0.0
            if behind and not reading.publishing and now - asked >= ASK_EVERY:
                druid.hand_off(name, groups)
                asked = now
            return Pending(f"{len(behind)} tasks hold rows, {len(reading.publishing)} publish")
        held = druid.realtime_segments(name, work.scope.start, work.scope.end)
        if held:
            return Pending(f"{held} segments of the range are not loaded yet")
        since = since or now
        seen = before and all(druid.task_state(task) == "SUCCESS" for task in before)
        if not seen and now - since < work.steady:
            return Pending("no task holds rows; making sure")
        return True

    work.until(f"Druid's tasks of {name}", probe, interval=min(0.5, work.steady / 4), hint="`penstock logs`")


def ask_hand_off(work: Work, replay: Replay) -> Replay:
    """Ask the tasks that hold rows of the range to publish them while it is computed, and note which they are: half a
    minute that is not waited.

    A request that is lost costs time only: `hand_off` looks at every task, and asks again.
    """
    assert replay.settled is not None
    druid, wanted = work.services.druid, replay.settled.out
    try:
        reading = druid.reading(work.pipeline.name)
        behind = [task for task, starts in reading.active.items() if _behind(starts, wanted)]
        if behind and not reading.publishing:
            druid.hand_off(work.pipeline.name, _groups(work))
    except UnavailableError as error:
        work.progress.update(f"hand-off is asked for later: {error.message}")
        return replay
    return replay.but(settled=replace(replay.settled, held=(*behind, *reading.publishing)))


def _groups(work: Work) -> range:
    return range(supervisor_spec(work.pipeline, work.settings.env)["spec"]["ioConfig"]["taskCount"])


def _behind(starts: Mapping[int, int], wanted: Mapping[int, int]) -> bool:
    return any(starts[partition] < end for partition, end in wanted.items() if partition in starts)


def _covered(active: Mapping[str, Mapping[int, int]], wanted: Mapping[int, int]) -> bool:
    """True where every partition that has rows is read by a task: one that nobody reads would be read again."""
    read = {partition for starts in active.values() for partition in starts}
    return bool(active) and read.issuperset(wanted)


def publish(work: Work, replay: Replay) -> Replay:
    """Replace the segments of the range by the computed rows."""
    files = [file for file in files_in(work.folder(replay, replay.attempt)) if file.stat().st_size]

    def check() -> None:
        if replay.task:  # whatever became of it, those that read may have died with it, and begun again further back
            hand_off(work, replay)
        guard(work, replay)

    return put(work, replay, check, files, work.scope.end)


@contextmanager
def locked(work: Work, verb: str) -> Iterator[None]:
    """Hold the environment's lock, and wait for it where another process does."""
    with ExitStack() as held:

        def acquired() -> bool | Pending:
            try:
                held.enter_context(environment_lock(work.settings, verb))
            except RefusedError as error:
                return Pending(error.message)
            return True

        work.until(f"the lock of {work.settings.env.name}", acquired, interval=0.2)
        yield


def put(work: Work, replay: Replay, check: Callable[[], None], files: Sequence[Path], end: int) -> Replay:
    """Replace the segments, by one task; one that was submitted before is awaited, one that failed is tried anew.

    `files` take the place of all rows from the range's start up to `end`.  Holds the environment's lock, so that no
    `apply` or `start` changes the live job between the guard `check` and the swap.
    """
    druid, env = work.services.druid, work.settings.env
    with locked(work, f"replay --id {replay.id}"):
        state = druid.task_state(task_id(env.name, replay.id, replay.task)) if replay.task else None
        if state not in ("RUNNING", "SUCCESS"):
            check()
            if replay.task == 0 or state == "FAILED":
                replay = work.save(replay.but(task=replay.task + 1))
            identity = task_id(env.name, replay.id, replay.task)
            span = replace(work.scope, end=end)
            druid.submit_task(publish_spec(work.pipeline, span, [str(file) for file in files], identity=identity))
        _await_task(work, replay)
    return replay


def _await_task(work: Work, replay: Replay) -> None:
    """Wait until Druid's task has ended well.  Raises UnavailableError for one that died with its indexer."""
    druid, identity = work.services.druid, task_id(work.settings.env.name, replay.id, replay.task)

    def probe() -> bool | Pending:
        state = druid.task_state(identity)
        if state == "FAILED":
            reason = druid.task_failure(identity)
            if any(words in reason for words in LOST):
                return False
            raise PenstockError(f"Druid's task {identity} failed: {reason}", hint=ways_on(replay))
        return True if state == "SUCCESS" else Pending(state or "not known to Druid yet")

    if not work.until(f"Druid's task {identity}", probe, interval=0.2, hint=ways_on(replay)):
        raise UnavailableError(f"Druid's task of {replay.id} was lost: its indexer was restarted", hint=ways_on(replay))


def guard(work: Work, replay: Replay) -> None:
    """Refuse to publish where the live job no longer is what it was at the cut, so that rows would be lost."""
    record = work.services.registry.read().get(work.pipeline.name)
    cut = replay.cut
    assert cut is not None
    if record is None or record.version not in ("", replay.version):
        why = "another version has been applied since"
    elif cut.savepoint is not None and (record.status != "stopped" or record.savepoint != cut.savepoint):
        why = "the live job was started since: rows that it has published would be lost"
    elif cut.savepoint is None and record.job_id != cut.job_id and record.restore is None:
        why = "the live job was started since without its state: windows of the range may have fired again"
    else:
        return
    raise RefusedError(
        f"replay {replay.id} can't be published: {why}",
        hint=f"`penstock replays --abandon {replay.id}`, then replay again",
    )


def check(work: Work, replay: Replay) -> Replay:
    """Wait until Druid serves what was computed.  Raises NotEqualError where it does not; the files are kept."""
    computed, end = dict(replay.figures.computed), work.scope.end
    if replay.handover is not None:
        computed, end = computed | dict(replay.handover.tail), replay.handover.end
    rolled = bool(work.pipeline.sink.measures)
    found: list[dict[int, Count]] = []
    answered: list[bool] = []

    def probe() -> bool | Pending:
        answered.clear()
        found.append(totals(work, end))
        answered.append(True)
        wrong = [
            start
            for start in sorted({*found[-1], *computed})
            if not _equal(found[-1].get(start, Count()), computed.get(start, Count()), rolled)
        ]
        if not wrong:
            return True
        there, want = found[-1].get(wrong[0], Count()), computed.get(wrong[0], Count())
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        return Pending(f"segment {utc(wrong[0])}{more}: {there.events:,} events of {want.events:,}")

    try:
        work.until(f"Druid's {work.pipeline.name}", probe, interval=0.25)
    except PenstockError as error:
        if not answered:  # it is away: what it serves is not known
            raise
        raise NotEqualError(
            f"{work.pipeline.name}: Druid does not serve what was computed: {error.message}",
            hint=f"the files are kept in {work.folder(replay)}; `penstock verify {work.pipeline.name}` says more",
        ) from error
    return replay.but(figures=replace(replay.figures, after=found[-1]))


def _equal(there: Count, want: Count, rolled: bool) -> bool:
    """Rolled-up rows are counted by their events only: how many rows hold them is Druid's affair."""
    return there.events == want.events and (rolled or there.rows == want.rows)
