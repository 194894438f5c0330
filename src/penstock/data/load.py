"""What the generator is to make: how much, how its time runs, how it is spread, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from penstock.durations import millis
from penstock.errors import DeclarationError
from penstock.pipeline import Topic

#: Kinds of events besides `good`.  A duplicate is counted again; a late or a too early one is not counted.
DUPLICATE, LATE, TOO_EARLY = "duplicate", "late", "too early"

#: Kinds that belong into the dead-letter topic, with the class of the reason that is to be given there.
MALFORMED = {
    "null value": "null value",
    "invalid UTF-8": "invalid UTF-8",
    "truncated": "malformed JSON",
    "wrong type": "wrong type",
    "missing required field": "missing required field",
    "number out of range": "number out of range",
    "nested too deeply": "nested too deeply",
    "largest message": "invalid UTF-8",
}

#: The default start of event time: 2024-01-01T00:00Z.
START_MS = 1_704_067_200_000


@dataclass(frozen=True)
class Clock:
    """Event time: where it starts and how far each event advances it, in ms (also fractions).

    Events are up to `disorder_s` seconds behind the clock, at random: less than the topic's out-of-orderness, so that
    none of them is late; None takes half of that.  Late ones are dated `late_by_s` seconds further back than the
    out-of-orderness: the default is late for every window that slides by an hour or less.
    """

    start_ms: int = START_MS
    step_ms: float = 10.0
    disorder_s: float | None = None
    late_by_s: float = 2 * 3600.0


@dataclass(frozen=True)
class Spread:
    """Keys and partitions: `hot_key` is the share of the first key, `idle` the partitions that get nothing."""

    keys: int = 100
    hot_key: float = 0.0
    idle: Sequence[int] = ()


@dataclass(frozen=True)
class Faults:
    """Shares (0 to 1) of all records.  Malformed ones take turns in MALFORMED; the largest message is there once."""

    late: float = 0.0
    duplicate: float = 0.0
    malformed: float = 0.0
    too_early: float = 0.0


@dataclass(frozen=True)
class Load:
    """`count` records in all, drawn from `seed`: the same load always makes the same records."""

    count: int
    seed: int = 0
    clock: Clock = field(default_factory=Clock)
    spread: Spread = field(default_factory=Spread)
    faults: Faults = field(default_factory=Faults)

    @property
    def last_event_ms(self) -> int:
        """The latest event time that is not dated too early on purpose."""
        return self.clock.start_ms + int(self.count * self.clock.step_ms)


def check(topic: Topic, load: Load) -> None:
    """Raise DeclarationError with every mistake of the load."""
    found = list(_problems(topic, load))
    if found:
        raise DeclarationError(found)


def _problems(topic: Topic, load: Load) -> Iterator[str]:
    clock, spread, faults = load.clock, load.spread, load.faults
    if load.count < 1:
        yield f"count = {load.count}: at least one record is made; for example 1000000"
    if clock.step_ms <= 0:
        yield f"step = {clock.step_ms:g} ms: event time advances; for example 10"
    bound = millis(topic.out_of_orderness) / 1000
    if clock.disorder_s is not None and not 0 <= clock.disorder_s < bound:
        yield f"disorder = {clock.disorder_s:g} s: from 0 to less than the topic's out-of-orderness, {bound:g} s"
    if clock.late_by_s <= 0:
        yield f"late by = {clock.late_by_s:g} s: late events lie behind the watermark; for example 7200"
    if spread.keys < 1:
        yield f"keys = {spread.keys}: there is at least one key; for example 100"
    if any(not 0 <= partition < topic.partitions for partition in spread.idle):
        yield f"idle = {list(spread.idle)}: {topic.name} has the partitions 0 to {topic.partitions - 1}"
    elif len(set(spread.idle)) == topic.partitions:
        yield f"idle = {list(spread.idle)}: at least one of the {topic.partitions} partitions gets events"
    shares = {"late": faults.late, "duplicate": faults.duplicate, "malformed": faults.malformed}
    shares |= {"too early": faults.too_early, "hot key": spread.hot_key}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            yield f"{name} = {share:g}: a share is from 0 to 1; for example 0.05"
    if faults.late + faults.duplicate + faults.malformed + faults.too_early > 1:
        yield "the shares of late, duplicate, malformed and too early events are at most 1 in all"
