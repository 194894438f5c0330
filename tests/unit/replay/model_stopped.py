"""The same for a pipeline without windows: its live job is stopped, and somebody may start it at any time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

EVENTS = 3

STOP, CUT, HAND_OFF, PUBLISH, RESUME, DONE = range(6)

GUARDS = {
    "stop": "let the live job run on",
    "the savepoint's offsets": "cut at the group's offsets, which lag behind the savepoint",
    "the log's end is not it": "cut at the log's end, past the savepoint",
    "hand off": "publish while Druid's task holds rows of the range",
    "still stopped": "publish after somebody has started the job",
}


class World(NamedTuple):
    """Events are their offsets, all of the range; `open` ones are read since the checkpoint at `checkpoint`."""

    log: int = 0
    running: bool = True
    position: int = 0
    checkpoint: int = 0
    group: int = 0
    out: tuple[int, ...] = ()
    read: int = 0
    held: tuple[int, ...] = ()
    published: tuple[int, ...] = ()
    step: int = STOP
    cut: int = -1


def take_checkpoint(world: World) -> World:
    """Take a checkpoint and commit: what was read since the last one is in the result topic."""
    out = world.out + tuple(range(world.checkpoint, world.position))
    return world._replace(checkpoint=world.position, out=out)


def moves(world: World, dropped: str | None) -> Iterator[World]:
    """Yield every world that may come next."""
    if world.log < EVENTS:
        yield world._replace(log=world.log + 1)
    if world.running:
        if world.position < world.log:
            yield world._replace(position=world.position + 1)
        if world.position != world.checkpoint:
            yield take_checkpoint(world)
            yield world._replace(position=world.checkpoint)
    elif world.step in (CUT, HAND_OFF, PUBLISH):
        yield world._replace(running=True)
    if world.group != world.checkpoint:
        yield world._replace(group=world.checkpoint)
    if world.read < len(world.out):
        yield world._replace(read=world.read + 1, held=(*world.held, world.out[world.read]))
    if world.held:
        yield world._replace(published=world.published + world.held, held=())
        yield world._replace(read=world.read - len(world.held), held=())
    yield from steps(world, dropped)


def steps(world: World, dropped: str | None) -> Iterator[World]:
    """Yield the replay's next step, where its guard allows it; begun anew where the job was started meanwhile."""
    running_on = dropped in ("stop", "still stopped")
    if world.step == STOP:
        yield (world if dropped == "stop" else take_checkpoint(world)._replace(running=False))._replace(step=CUT)
    elif world.step in (CUT, HAND_OFF, PUBLISH) and world.running and not running_on:
        yield world._replace(step=STOP)
    elif world.step == CUT:
        cuts = {"the savepoint's offsets": world.group, "the log's end is not it": world.log}
        yield world._replace(step=HAND_OFF, cut=cuts.get(dropped or "", world.checkpoint))
    elif world.step == HAND_OFF:
        if (world.read == len(world.out) and not world.held) or dropped == "hand off":
            yield world._replace(step=PUBLISH)
    elif world.step == PUBLISH:
        yield world._replace(step=RESUME, published=tuple(range(world.cut)))
    elif world.step == RESUME:
        yield world._replace(step=DONE, running=True)


def wrong(world: World) -> str | None:
    """Say what is wrong when all has come to its end: every event is in Druid once."""
    end = take_checkpoint(world._replace(position=world.log))
    rows = sorted(end.published + end.held + end.out[end.read :])
    return None if rows == list(range(end.log)) else f"Druid has {rows} of {end.log} events"


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
