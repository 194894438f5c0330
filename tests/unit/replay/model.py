"""The algorithm of a replay as a small state machine, small enough to look at every interleaving.

One window of the range (`w` events), closed by an event (`p`) or by silence; one partition.  The live job reads, fires,
takes checkpoints, commits, dies and goes back; Druid's task reads what is committed, hands over, fails, reads again;
the replay takes its steps.  All of that in any order.  `dropped` names one guard that is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

#: Events that may arrive: of the window, and the one that closes it.
WINDOW_EVENTS, CLOSING_EVENTS = 3, 1

CLOSE, CUT, SETTLE, HAND_OFF, PUBLISH, DONE = range(6)

#: Each guard, and what is done without it.
GUARDS = {
    "close": "cut while the window is still open",
    "durable": "cut when the window has fired, with no checkpoint yet that holds it",
    "cut at the log's end": "cut at the group's offsets, which lag behind the job",
    "settle": "do not wait for the job's transactions",
    "hand off": "publish while Druid's task holds rows of the range",
    "await the hand-off": "publish while Druid's task is publishing",
}


class Job(NamedTuple):
    """A job's state: the next offset, whether the window has fired, the events in it."""

    position: int = 0
    fired: bool = False
    count: int = 0


class World(NamedTuple):
    """`open` and `prepared` are (results, late offsets) written since the checkpoint, and in it but not committed."""

    log: str = ""
    job: Job = Job()
    checkpoint: Job = Job()
    open: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    prepared: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    group: int = 0
    out: tuple[int, ...] = ()
    late: tuple[int, ...] = ()
    read: int = 0
    held: tuple[int, ...] = ()
    publishing: tuple[int, ...] = ()
    published: tuple[int, ...] = ()
    step: int = CLOSE
    cut: int = -1


def read(world: World) -> World:
    """The live job reads one event."""
    job, (results, late) = world.job, world.open
    after = world._replace(job=job._replace(position=job.position + 1))
    if world.log[job.position] == "p":
        return fire(after)
    if job.fired:
        return after._replace(open=(results, (*late, job.position)))
    return after._replace(job=after.job._replace(count=job.count + 1))


def fire(world: World) -> World:
    """The watermark passes the window: what is in it is written, once."""
    job, (results, late) = world.job, world.open
    results = (*results, job.count) if job.count else results
    return world._replace(job=Job(job.position, True, 0), open=(results, late))


def take_checkpoint(world: World) -> World:
    return world._replace(checkpoint=world.job, prepared=world.open, open=((), ()))


def commit(world: World) -> World:
    results, late = world.prepared
    return world._replace(out=world.out + results, late=world.late + late, prepared=((), ()))


def fail(world: World) -> World:
    """The live job dies: what its checkpoint had prepared is committed, the rest is aborted and read again."""
    return commit(world)._replace(job=world.checkpoint, open=((), ()))


def moves(world: World, dropped: str | None) -> Iterator[World]:
    """Yield every world that may come next."""
    if world.log.count("w") < WINDOW_EVENTS:
        yield world._replace(log=world.log + "w")
    if world.log.count("p") < CLOSING_EVENTS:
        yield world._replace(log=world.log + "p")
    if world.job.position < len(world.log):
        yield read(world)
    if not world.job.fired:  # the partition is silent for so long that others carry the watermark on
        yield fire(world)
    if world.prepared == ((), ()):
        if world.job != world.checkpoint:
            yield take_checkpoint(world)
    else:
        yield commit(world)
    if world.job != world.checkpoint:
        yield fail(world)
    if world.group != world.checkpoint.position:
        yield world._replace(group=world.checkpoint.position)
    if world.read < len(world.out):
        yield world._replace(read=world.read + 1, held=(*world.held, world.out[world.read]))
    if world.held and not world.publishing:
        yield world._replace(publishing=world.held, held=())
    if world.publishing:
        yield world._replace(published=world.published + world.publishing, publishing=())
    if world.held or world.publishing:  # a task that fails takes its successor with it: both are read again
        yield world._replace(read=world.read - len(world.held) - len(world.publishing), held=(), publishing=())
    yield from steps(world, dropped)


def steps(world: World, dropped: str | None) -> Iterator[World]:
    """Yield the replay's next step, where its guard allows it."""
    if world.step == CLOSE:
        durable = world.checkpoint.fired or dropped == "durable"
        if (world.job.fired and durable) or dropped == "close":
            yield world._replace(step=CUT)
    elif world.step == CUT:
        cut = world.group if dropped == "cut at the log's end" else len(world.log)
        yield world._replace(step=SETTLE, cut=cut)
    elif world.step == SETTLE:
        passed = world.group >= world.cut and world.prepared == ((), ())
        if passed or dropped == "settle":
            yield world._replace(step=HAND_OFF)
    elif world.step == HAND_OFF:
        ends = world.read == len(world.out) and not world.held
        if (ends and (not world.publishing or dropped == "await the hand-off")) or dropped == "hand off":
            yield world._replace(step=PUBLISH)
    elif world.step == PUBLISH:
        yield world._replace(step=HAND_OFF)  # the replay died, and is run again
        value = world.log[: world.cut].count("w")
        yield world._replace(step=DONE, published=(value,) if value else ())


def drained(world: World) -> World:
    """Let everything that is under way come to its end."""
    while world.job.position < len(world.log):
        world = read(world)
    world = commit(take_checkpoint(fire(commit(world))))
    rows = world.published + world.publishing + world.held + world.out[world.read :]
    return world._replace(published=rows, held=(), publishing=(), read=len(world.out))


def wrong(world: World) -> str | None:
    """Say what is wrong at the end of a replay: each event is counted once, or kept for the next repair."""
    end = drained(world)
    counted = [offset for offset, event in enumerate(end.log) if event == "w" and offset < end.cut]
    later = {offset for offset, event in enumerate(end.log) if event == "w" and offset >= end.cut}
    if sum(end.published) != len(counted):
        return f"Druid has {end.published}, the log before the cut {len(counted)} events"
    if not later <= set(end.late):
        return f"events {sorted(later - set(end.late))} after the cut are neither counted nor late"
    return None


def explore(dropped: str | None = None) -> tuple[int, int, str | None]:
    """Look at every interleaving; return how many worlds and ends there are, and the first thing found wrong."""
    start = World()
    seen, todo, ends = {start}, [start], 0
    while todo:
        world = todo.pop()
        if world.step == DONE:
            ends += 1
            found = wrong(world)
            if found is not None:
                return len(seen), ends, found
            continue
        for following in moves(world, dropped):
            if following not in seen:
                seen.add(following)
                todo.append(following)
    return len(seen), ends, None
