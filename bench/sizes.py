"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass

#: Events a second of the measurements of latency.
RATE = 1_000


@dataclass(frozen=True)
class Sizes:
    """`events` are read by each bounded job, `rounds` is how often each job of a pair runs.

    `history` rows are in Druid before latency is measured, for `seconds`; `queries` is for each kind of query.
    `hours` of RATE events/s are replayed as a whole, and one of them by each job of a pair; a day of hours is published
    that holds `day` events.
    """

    events: int
    rounds: int
    history: int
    seconds: float
    queries: int
    hours: int
    day: int


FULL = Sizes(events=3_000_000, rounds=5, history=200_000, seconds=45, queries=300, hours=6, day=1_000_000)
QUICK = Sizes(events=500_000, rounds=1, history=20_000, seconds=15, queries=100, hours=1, day=200_000)
