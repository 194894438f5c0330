"""A reader who asks for the days' figures again and again, and what it saw: the old logic, the new one, or both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.watch import Sql

#: Seconds between two questions.
EVERY = 0.2
#: Of a day's events, the share that may be wanting before it counts as cut short: more than are ever late.
SHORT = 0.02

#: Of each day (epoch ms), its events and the sum of their delays.
Days = Mapping[int, tuple[int, int]]


@dataclass(frozen=True)
class Seen:
    """One answer: when it was there (perf_counter), and the days in it."""

    at: float
    days: Days


@dataclass(frozen=True)
class Times:
    """Seconds in which a reader saw days of both logics side by side, and in which days lacked events or rows."""

    mixed: float
    short: float
    answers: int


@dataclass
class Reader:
    """Asks in a thread, between `with` and its end; `query` gives the SQL of the moment."""

    broker: str
    query: Callable[[], str]
    seen: list[Seen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        sql = Sql(self.broker)
        try:
            while not self._stop.is_set():
                rows = sql.rows(halves(self.query(), by_day))
                self.seen.append(Seen(time.perf_counter(), {int(day): (int(n), int(s)) for day, n, s in rows}))
                self._stop.wait(EVERY)
        except BaseException as error:
            self._failure = error


def halves(query: str, around: Callable[[str], str]) -> str:
    """Put `around` about each part of a union: Druid can't put anything about the whole."""
    return " UNION ALL ".join(around(part) for part in query.split("UNION ALL"))


def by_day(query: str) -> str:
    return (
        'SELECT TIMESTAMP_TO_MILLIS(TIME_FLOOR(__time, \'P1D\')), SUM("_rows"), SUM("delay_min_sum") '
        f"FROM ({query}) GROUP BY 1"
    )


def times(seen: Sequence[Seen], old: Days, new: Days) -> Times:
    """Return for how long the answers were mixed, or short, by what each day must be under either logic.

    A day follows the logic whose mean delay is the nearer one.  An answer holds until the next one.
    """
    mixed = short = 0.0
    for answer, then in zip(seen, [*seen[1:], *seen[-1:]], strict=True):
        told = {_is_new(answer.days[day], old[day], new[day]) for day in answer.days}
        last = max(answer.days, default=0)
        wanted = [day for day in new if day <= last]
        lacking = any(answer.days.get(day, (0, 0))[0] < new[day][0] * (1 - SHORT) for day in wanted)
        mixed += (then.at - answer.at) * (len(told) > 1)
        short += (then.at - answer.at) * lacking
    return Times(mixed, short, len(seen))


def _is_new(figures: tuple[int, int], old: tuple[int, int], new: tuple[int, int]) -> bool:
    mean = figures[1] / figures[0]
    return abs(mean - new[1] / new[0]) < abs(mean - old[1] / old[0])
