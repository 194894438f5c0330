"""When late events are repaired: what a declaration says of it, and whether that is due.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from penstock.durations import format_duration, millis, parse_duration

#: Hours and nights are UTC, as everything is; 02:00 lets a day's last windows close, and its stragglers come.
NIGHT = timedelta(hours=2)

EXAMPLES = '"after 10 min", "hourly", "nightly", "never"'


@dataclass(frozen=True)
class RepairPolicy:
    """When `penstock repair --due` acts.

    `every` is hourly, nightly or never; `quiet` is, instead, how long no late event must have come.
    """

    every: str | None = None
    quiet: timedelta | None = None

    def __str__(self) -> str:
        return f"after {format_duration(self.quiet)}" if self.quiet is not None else str(self.every)


def parse_policy(value: object) -> RepairPolicy | None:
    """Return a policy's text as a policy; None where it is none."""
    if isinstance(value, RepairPolicy):
        return value
    if value in ("hourly", "nightly", "never"):
        return RepairPolicy(every=str(value))
    words = value.strip().partition(" ") if isinstance(value, str) else ("", "", "")
    quiet = parse_duration(words[2]) if words[0] == "after" else None
    return None if quiet is None else RepairPolicy(quiet=quiet)


@dataclass(frozen=True)
class Standing:
    """What a policy looks at.  Times are epoch ms.

    `ready` late events could be healed now, `waiting` ones lie in windows that are still open; `newest` is when the
    last of the ready ones came, `repaired` when the last repair was asked for, `unfinished` the id of one that died.
    """

    ready: int = 0
    waiting: int = 0
    newest: int | None = None
    repaired: int | None = None
    unfinished: str | None = None


@dataclass(frozen=True)
class Due:
    """Whether a repair is due, why, and, where it is not but will be, when (epoch ms)."""

    now: bool
    why: str
    at: int | None = None


def due(policy: RepairPolicy, now: int, facts: Standing) -> Due:
    """Say whether a pipeline is to be repaired at `now` (epoch ms)."""
    if policy.every == "never":
        return Due(False, "its policy is never: only by hand")
    if facts.unfinished is not None:
        return Due(True, f"{facts.unfinished} is not finished")
    if not facts.ready or facts.newest is None:
        waiting = f"; {facts.waiting:,} wait for open windows" if facts.waiting else ""
        return Due(False, f"no late event to heal{waiting}")
    events = f"{facts.ready:,} late event{'s' * (facts.ready != 1)}"
    if policy.quiet is not None:
        at = facts.newest + millis(policy.quiet)
        quiet = format_duration(policy.quiet)
        if at <= now:
            return Due(True, f"{events}, and none more for {quiet}")
        return Due(False, f"{events}, the last one less than {quiet} ago", at)
    since, following = _turn(policy, now)
    if facts.repaired is None or facts.repaired < since:
        return Due(True, f"{events}, and no repair since {_clock(since)}")
    return Due(False, f"{events}; repaired at {_clock(facts.repaired)} already", following)


def _turn(policy: RepairPolicy, now: int) -> tuple[int, int]:
    """The last and the next moment at which an hourly or nightly repair begins."""
    hourly = policy.every == "hourly"
    length, offset = (timedelta(hours=1), timedelta(0)) if hourly else (timedelta(days=1), NIGHT)
    since = now - (now - millis(offset)) % millis(length)
    return since, since + millis(length)


def _clock(instant: int) -> str:
    return datetime.fromtimestamp(instant / 1000, UTC).strftime("%Y-%m-%dT%H:%MZ")
