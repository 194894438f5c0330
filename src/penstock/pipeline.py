"""1. Declare: the types of a pipeline.  Plain frozen data; building it does no I/O and raises nothing.

Durations are written as text ("5 min") and held as `timedelta`, lists as tuples; what is none stays as it was written
and is reported by `penstock.validate.problems`, with every other mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from penstock.durations import parse_duration
from penstock.repair_policy import RepairPolicy, parse_policy

#: Field types, and what they are in Flink SQL, DuckDB and Druid.
FLINK_TYPES = {"string": "STRING", "boolean": "BOOLEAN", "long": "BIGINT", "double": "DOUBLE", "timestamp_ms": "BIGINT"}
DUCKDB_TYPES = {
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
    "long": "BIGINT",
    "double": "DOUBLE",
    "timestamp_ms": "BIGINT",
}
DRUID_TYPES = {"string": "string", "boolean": "string", "long": "long", "double": "double", "timestamp_ms": "long"}


def _freeze(instance: object, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def _duration(value: Any) -> Any:
    parsed = parse_duration(value)
    return value if parsed is None else parsed


def _tuple(value: Any) -> Any:
    """Freeze a list; text, whose letters are no list of names, stays as it is."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def _map(value: Any) -> Any:
    return _FrozenMap(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class Field:
    """One column of a topic's records; `type` is string, boolean, long, double or timestamp_ms (epoch ms, UTC)."""

    name: str
    type: str
    nullable: bool = False


@dataclass(frozen=True)
class Topic:
    """A Kafka topic of JSON records, its event time and how far out of order it may be.

    `event_time` names a timestamp_ms field; `out_of_orderness` is how long the watermark waits behind it; `idle_after`
    is the silence after which a partition no longer holds the watermark back; an event dated more than `too_early`
    after its record's own timestamp never moves the watermark.  `external` topics belong to others: they are observed
    and checked, never changed.
    """

    name: str
    fields: Sequence[Field]
    event_time: str
    out_of_orderness: timedelta | str = "5 s"
    key: str | None = None
    partitions: int = 4
    retention: timedelta | str = "7 d"
    idle_after: timedelta | str = "10 s"
    too_early: timedelta | str = "1 h"
    max_message_bytes: int = 1_048_588
    external: bool = False

    def __post_init__(self) -> None:
        _freeze(
            self,
            fields=_tuple(self.fields),
            **{name: _duration(getattr(self, name)) for name in TOPIC_DURATIONS},
        )

    def field(self, name: str) -> Field:
        """Return the field called `name`; raise KeyError where there is none."""
        return {item.name: item for item in self.fields}[name]


TOPIC_DURATIONS = ("out_of_orderness", "retention", "idle_after", "too_early")


@dataclass(frozen=True)
class Tumble:
    """Windows of `size`, end to end, aligned to the epoch in UTC."""

    size: timedelta | str

    def __post_init__(self) -> None:
        _freeze(self, size=_duration(self.size))

    @property
    def slide(self) -> timedelta | str:
        return self.size


@dataclass(frozen=True)
class Hop:
    """Sliding windows of `size`, one starting every `slide`; rows are in size/slide of them, so never sum over time."""

    size: timedelta | str
    slide: timedelta | str

    def __post_init__(self) -> None:
        _freeze(self, size=_duration(self.size), slide=_duration(self.slide))


Window = Tumble | Hop


@dataclass(frozen=True)
class Select:
    """Pass rows through: `columns` (all fields when empty), only those for which the SQL condition `where` is true."""

    columns: Sequence[str] = ()
    where: str | None = None

    def __post_init__(self) -> None:
        _freeze(self, columns=_tuple(self.columns))


@dataclass(frozen=True)
class Aggregate:
    """Group rows by window and the fields `by`; `measures` maps a column to a SQL aggregate over the fields."""

    window: Window
    by: Sequence[str]
    measures: Mapping[str, str]
    where: str | None = None

    def __post_init__(self) -> None:
        _freeze(self, by=_tuple(self.by), measures=_map(self.measures))


Transform = Select | Aggregate


@dataclass(frozen=True)
class Datasource:
    """The Druid datasource, called as the pipeline is.

    `segment` is a segment's span: hour, day or month.  With `measures` (a column to SUM, MIN or MAX of a field;
    `Select` only) rows are rolled up to one per `granularity` and `dimensions`.  `dimensions` are the keys of an
    `Aggregate`; a `Select` that is not rolled up has none to name, as each of its columns is one.
    """

    dimensions: Sequence[str] = ()
    segment: str = "hour"
    measures: Mapping[str, str] = field(default_factory=dict)
    granularity: str | None = None

    def __post_init__(self) -> None:
        _freeze(self, dimensions=_tuple(self.dimensions), measures=_map(self.measures))


Offsets = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Launch:
    """Where the running generation of a pipeline began, beside a replay of its past.  Noted then, never declared.

    Figures from `since` on are this generation's.  Windows that start at `boundary` or later are the live job's, which
    began to read at `low`; those before it are the replay's, which counted every record before `cut`.  Without windows
    there is no boundary: the live job began at the cut.  Times are epoch ms, offsets pairs of partition and offset.
    """

    generation: int
    since: int
    boundary: int | None
    low: Offsets
    cut: Offsets


@dataclass(frozen=True)
class Pipeline:
    """One declared pipeline; topics, Flink job, Druid spec, oracle and checks are functions of it.

    `repair` is when `penstock repair --due` heals late events: "after 10 min" (without another one), "hourly",
    "nightly" (02:00 UTC) or "never".  `launch` is set by `penstock.generation.deployed`, for a pipeline whose running
    job began beside a replay.
    """

    name: str
    source: Topic
    transform: Transform
    sink: Datasource
    parallelism: int | None = None
    description: str = ""
    repair: RepairPolicy | str = "nightly"
    launch: Launch | None = None

    def __post_init__(self) -> None:
        _freeze(self, repair=parse_policy(self.repair) or self.repair)

    @property
    def stream(self) -> str:
        """What its job, derived topics and consumer group are called: each generation has its own."""
        generation = self.launch.generation if self.launch else 0
        return f"{self.name}.{generation}" if generation else self.name


class _FrozenMap(dict[str, str]):
    """A dict that hashes and can't be changed, so that a declaration is frozen all through."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))

    def _refuse(self, *_: Any, **__: Any) -> None:
        raise TypeError("a declaration is frozen")

    __setitem__ = __delitem__ = update = pop = clear = setdefault = popitem = _refuse  # type: ignore[assignment]


#: Segment spans, with the shortest and longest length in milliseconds that a month or the like can have.
SEGMENTS = {"hour": 3_600_000, "day": 86_400_000, "month": 28 * 86_400_000}
