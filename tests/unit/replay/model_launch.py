"""The same for a new generation: it begins beside the old job, takes over from it, and Druid goes on with its results.

Three windows: `Z` lies before the range (its figures stay), `A` before the boundary, `B` after it.  Both jobs read,
fire, take checkpoints and go back; Druid's task on the old topic holds, publishes and reads again; the replay dies and
is run again between any two steps; somebody starts the old job again, or another version.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

#: Events that may arrive beside the first one, which is of `A`.
ARRIVE = {"a": 1, "b": 1}

CUT, BEGIN, STOP, HAND_OFF, FIRED, NOTE, PUBLISH, SWITCH, RECEIPT, DONE = range(10)

GUARDS = {
    "begin where its windows may": "let the new job begin at the cut",
    "late after the cut": "do not keep records of the past that come after the cut",
    "the past is not the new job's": "let the new job count windows before the boundary",
    "compute up to the cut": "compute the past up to the log's end, when it is published",
    "the old job's transactions": "do not wait for what the old job has still to commit",
    "hand off": "do not wait until Druid has read what the old job wrote",
    "what is held is published": "replace while Druid's task holds rows of the old job",
    "suspend": "let Druid read the old topic until the switch",
    "what was served has fired": "replace before the new job's watermark is where the old one's was",
    "look again": "do not look whether the new job went back between its watermark and the checkpoint",
    "a checkpoint": "note the offsets before what has fired is committed",
    "not from the topic's start": "let Druid begin at the new topic's start",
    "not from the topic's end": "let Druid begin at the new topic's end",
    "another version": "go on when another version was started meanwhile",
    "switch once": "set Druid's offsets again after it had gone on",
}


class Old(NamedTuple):
    """The old job's state: the next offset, how many windows have fired, whether `B` has events."""

    position: int = 1
    fired: int = 1
    some: bool = False


class New(NamedTuple):
    """The new job's state: the next offset, whether `B` has fired, the offsets it has of a window."""

    position: int = -1
    fired: bool = False
    past: tuple[int, ...] = ()
    events: tuple[int, ...] = ()


Rows = tuple[tuple[str, tuple[int, ...]], ...]


class World(NamedTuple):
    """Old rows are a window's name, new ones that and the offsets in it; what is `open` is written, not committed."""

    log: str = "a"
    old: Old = Old()
    kept: Old = Old(0, 0)
    open: str = "A"
    prepared: str = "Z"
    out: str = ""
    running: bool = True
    restarts: int = 0
    other: bool = False
    read: int = 0
    held: str = ""
    suspended: bool = False
    served: str = ""
    new: New = New()
    saved: New = New()
    new_open: tuple[Rows, tuple[int, ...]] = ((), ())
    new_out: Rows = ()
    late: tuple[int, ...] = ()
    step: int = CUT
    cut: int = -1
    offset: int = -1
    new_read: int = -1
    new_served: Rows = ()
    replaced: bool = False


def old_reads(world: World) -> World:
    """Read one event: of a window that has fired it is late, and in a topic that is not read any more."""
    old, kind = world.old, world.log[world.old.position]
    return world._replace(old=Old(old.position + 1, old.fired, old.some or (kind == "b" and old.fired < 2)))


def old_fires(world: World) -> World:
    """Fire the next window: `A` again where the job went back behind it."""
    old = world.old
    rows = "A" if old.fired == 0 else "B" * old.some
    return world._replace(old=Old(old.position, old.fired + 1, old.some and old.fired == 0), open=world.open + rows)


def commit(world: World) -> World:
    return world._replace(out=world.out + world.prepared, prepared="")


def keep(world: World) -> World:
    return world._replace(kept=world.old, prepared=world.prepared + world.open, open="")


def new_reads(world: World, dropped: str | None) -> World:
    """Read one event: counted, late, or the replay's."""
    new, (rows, late), at = world.new, world.new_open, world.new.position
    after = new._replace(position=at + 1)
    if world.log[at] == "a":
        if dropped == "the past is not the new job's":
            after = after._replace(past=(*new.past, at))
        elif at >= world.cut and dropped != "late after the cut":
            late = (*late, at)
    elif new.fired:
        late = (*late, at)
    else:
        after = after._replace(events=(*new.events, at))
    return world._replace(new=after, new_open=(rows, late))


def new_fires(world: World) -> World:
    new, (rows, late) = world.new, world.new_open
    found = tuple((name, events) for name, events in (("A", new.past), ("B", new.events)) if events)
    return world._replace(new=New(new.position, True), new_open=(rows + found, late))


def save(world: World) -> World:
    """Take a checkpoint of the new job, and commit."""
    rows, late = world.new_open
    return world._replace(saved=world.new, new_out=world.new_out + rows, late=world.late + late, new_open=((), ()))


def moves(world: World, dropped: str | None) -> Iterator[World]:
    """Yield every world that may come next."""
    if world.other and dropped != "another version":
        return
    if world.log.count("a") <= ARRIVE["a"]:
        yield world._replace(log=world.log + "a")
    if world.log.count("b") < ARRIVE["b"]:
        yield world._replace(log=world.log + "b")
    yield from _old(world)
    yield from _new(world, dropped)
    yield from _druid(world)
    if world.step == NOTE:
        yield world._replace(other=True)
    yield from steps(world, dropped)


def _old(world: World) -> Iterator[World]:
    if world.suspended or world.new_read >= 0:  # nothing of it is read any more
        return
    if not world.running:
        if world.restarts == 0:
            yield world._replace(running=True, restarts=1)
        return
    if world.old.position < len(world.log):
        yield old_reads(world)
    elif world.old.fired < 2:  # there is nothing to read, and the partition is silent
        yield old_fires(world)
    if world.prepared:
        yield commit(world)
    elif world.old != world.kept:
        yield keep(world)
        yield commit(world)._replace(old=world.kept, open="")


def _new(world: World, dropped: str | None) -> Iterator[World]:
    if world.new.position < 0:
        return
    if world.new.position < len(world.log):
        yield new_reads(world, dropped)
    elif not world.new.fired:
        yield new_fires(world)
    if world.new != world.saved:
        yield save(world)
        yield world._replace(new=world.saved, new_open=((), ()))


def _druid(world: World) -> Iterator[World]:
    if world.new_read >= 0:
        if world.new_read < len(world.new_out):
            yield druid_goes_on(world)
        return
    if not world.suspended and world.read < len(world.out):
        yield world._replace(read=world.read + 1, held=world.held + world.out[world.read])
    if world.held:
        yield world._replace(served=world.served + world.held, held="")
        if not world.suspended:
            yield world._replace(read=world.read - len(world.held), held="")


def suspend(world: World) -> World:
    """Let Druid read no more of the old topic: whatever the old job does from here on, it is all the same."""
    return world._replace(suspended=True, running=False, old=Old(), kept=Old(), open="", prepared="", out="", read=0)


def druid_goes_on(world: World) -> World:
    row = world.new_out[world.new_read]
    return world._replace(new_read=world.new_read + 1, new_served=(*world.new_served, row))


def steps(world: World, dropped: str | None) -> Iterator[World]:
    """Yield the replay's next step, where its guard allows it."""
    if STOP < world.step < PUBLISH:  # it died, and the hand-over is begun anew
        yield world._replace(step=STOP)
    if world.step == CUT:
        yield world._replace(step=BEGIN, cut=len(world.log))
    elif world.step == BEGIN:
        first = world.log.find("b", 0, world.cut)
        low = world.cut if first < 0 or dropped == "begin where its windows may" else first
        if dropped == "the past is not the new job's":
            low = 0
        yield world._replace(step=STOP, new=New(low), saved=New(low))
    elif world.step < PUBLISH:
        yield from _hand_over(world, dropped)
    elif world.step == PUBLISH:
        yield from _publish(world, dropped)
    elif world.step == SWITCH:
        yield from _switch(world, dropped)
    elif world.step == RECEIPT:
        yield world._replace(step=DONE)


def _hand_over(world: World, dropped: str | None) -> Iterator[World]:
    if world.step == STOP:
        stopped = keep(world)._replace(running=False) if world.running else world
        yield stopped._replace(step=HAND_OFF)
    elif world.step == HAND_OFF and world.suspended:
        yield world._replace(step=FIRED)
    elif world.step == HAND_OFF:
        if world.prepared:
            yield commit(world)  # the coordinator ends them, whether the job is there or not
        settled = not world.prepared or dropped == "the old job's transactions"
        handed = world.read == len(world.out) or dropped == "hand off"
        published = not world.held or dropped == "what is held is published"
        if settled and handed and published:
            yield (world if dropped == "suspend" else suspend(world))._replace(step=FIRED)
    elif world.step == FIRED:
        if world.new.fired or "B" not in world.served or dropped == "what was served has fired":
            yield world._replace(step=NOTE)
    elif world.step == NOTE:
        saved = world if dropped == "a checkpoint" else save(world)
        fired = world.new.fired or "B" not in world.served or dropped in ("what was served has fired", "look again")
        yield saved._replace(step=PUBLISH, offset=len(saved.new_out)) if fired else saved._replace(step=FIRED)


def _publish(world: World, dropped: str | None) -> Iterator[World]:
    end = len(world.log) if dropped == "compute up to the cut" else world.cut
    past = tuple(at for at in range(end) if world.log[at] == "a")
    rows = (*((("A", past),) if past else ()), *world.new_out[: world.offset])
    done = world._replace(served=world.served.replace("A", "").replace("B", ""), new_served=rows, replaced=True)
    yield done._replace(step=SWITCH)


def _switch(world: World, dropped: str | None) -> Iterator[World]:
    offsets = {"not from the topic's start": 0, "not from the topic's end": len(world.new_out)}
    if world.new_read < 0 or dropped == "switch once":
        switched = world._replace(new_read=offsets.get(dropped or "", world.offset), suspended=False)
        yield switched  # it died before that was noted
        yield switched._replace(step=RECEIPT)
    else:
        yield world._replace(step=RECEIPT)


def seen(before: World, after: World) -> str | None:
    """Say what a reader may not see: a window that is gone, or old figures beside new ones."""
    if after.replaced and not before.replaced:
        there = {name for name, _ in after.new_served} | set(after.served)
        gone = set(before.served + before.held) - there
        rows, _ = before.new_open
        new = before.new
        # Else its events came when the new job had fired: they are in the late topic, for the next repair.
        counted = rows or (not new.fired and (new.events or "b" in before.log[new.position :]))
        if gone and (counted or gone != {"B"}):
            return f"windows {sorted(gone)} were served, and are not any more"
    if after.replaced and set(after.served + after.held) & set("AB"):
        return f"old figures {after.served + after.held} are served beside the new ones"
    return None


def wrong(world: World) -> str | None:
    """Say what is wrong at the end: each event is counted once by the new logic, or kept in the new late topic."""
    if world.other:
        return "another version was started, and is undone"
    end = world
    while end.new.position < len(end.log):
        end = new_reads(end, None)
    end = save(new_fires(end))
    while end.new_read < len(end.new_out):
        end = druid_goes_on(end)
    found = sorted([at for _, events in end.new_served for at in events] + list(end.late))
    if found != list(range(len(end.log))):
        return f"of {len(end.log)} events, {found} are counted or late"
    return None if end.served == "Z" else f"before the range Druid has {end.served!r}"


def explore(dropped: str | None = None) -> tuple[int, int, str | None]:
    """Look at every interleaving; return how many worlds and ends there are, and the first thing found wrong."""
    start = World()
    known, todo, ends = {start}, [start], 0
    while todo:
        world = todo.pop()
        if world.step == DONE:
            ends += 1
            found = wrong(world)
            if found is not None:
                return len(known), ends, found
            continue
        for following in moves(world, dropped):
            found = seen(world, following)
            if found is not None:
                return len(known), ends, found
            if following not in known:
                known.add(following)
                todo.append(following)
    return len(known), ends, None
