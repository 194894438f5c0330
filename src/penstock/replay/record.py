"""What is remembered of a replay: one record in the compacted topic `penstock.replays`, from its plan to its receipt.

Key `<env>/<id>`, value JSON.  It is written before each step acts and after it is done, so whatever dies, a run with
the same id goes on from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from penstock.errors import PenstockError
from penstock.generation import launch_from_json
from penstock.newer import known
from penstock.pipeline import Launch, Pipeline
from penstock.settings import Environment
from penstock.topics import TopicSpec

TOPIC = "penstock.replays"

#: `running` until it is published and checked, or is given up; `dry` where nothing was to be published; `removed` where
#: the rows that it published were dropped together with the pipeline.
STATUSES = ("running", "done", "dry", "abandoned", "removed")

Offsets = Mapping[int, int]

EMPTY = "empty-segments"
#: What a replay may be allowed by name, and what it costs.
FLAGS = {EMPTY: "segments of which the log gives no row are replaced by nothing: what Druid has of them is lost"}


@dataclass(frozen=True)
class Asked:
    """What was asked for: a range before and after it was widened (epoch ms), how, why and by whom (time in UTC).

    `repair` tells a repair's replays from those that were asked for by hand; `empty_segments` lets segments go of which
    the log holds no event.
    """

    start: int
    end: int
    wide_start: int
    wide_end: int
    dry_run: bool = False
    rate: float | None = None
    reason: str = ""
    by: str = ""
    at: str = ""
    repair: bool = False
    empty_segments: bool = False


@dataclass(frozen=True)
class Cut:
    """Where the log was cut: records with low <= offset < high are computed.

    `watermark` is the live job's when the range was closed, `job_id` which start of it that was;
    `savepoint` is where it was stopped, for a pipeline without windows.  `topic` is the source, "" in a record of old.
    """

    low: Offsets
    high: Offsets
    watermark: int | None = None
    job_id: str = ""
    savepoint: str | None = None
    topic: str = ""


@dataclass(frozen=True)
class Settled:
    """What was durable before anything was computed: a checkpoint of the live job, and the end of the result topic.

    For a new generation it is the new job's, as the old one hands over: a state older than it is never gone on from.

    `out` is one past the last committed record of each partition that has one.  Druid must have read up to there.
    `held` are Druid's tasks that held rows up to there then: once all have ended well, no task holds any.
    """

    checkpoint: int | None
    path: str
    out: Offsets
    held: tuple[str, ...] = ()


@dataclass(frozen=True)
class Count:
    """A segment's rows in Druid (or in the files), and the events behind them; overlapping windows count one again."""

    rows: int = 0
    events: int = 0


Counts = Mapping[int, Count]


@dataclass(frozen=True)
class Sum:
    """A measure summed over all rows of the range; None where no row has it, or Druid has no such column yet."""

    before: float | None = None
    computed: float | None = None


@dataclass(frozen=True)
class Figures:
    """Counts of each segment (by its start, epoch ms): live before, computed, live after; `read` records of the log.

    `sums` are by measure: they tell what changed where the counts do not.
    """

    read: int = 0
    before: Counts = field(default_factory=dict)
    computed: Counts = field(default_factory=dict)
    after: Counts = field(default_factory=dict)
    compared: int = 0
    sums: Mapping[str, Sum] = field(default_factory=dict)


@dataclass(frozen=True)
class Handover:
    """What a replay that brings a new generation into place has beside: the old one stays until it takes over.

    `version` is what ran before ("" where nothing did), `run` numbers the new job's start, `launch` is known at the
    cut.  `offsets` are where Druid goes on in the new result topic, once the old job has stopped; `tail` counts what
    lies before them, and is published with the past, up to `end` (epoch ms), after which Druid has nothing.
    """

    version: str = ""
    run: int = 0
    launch: Launch | None = None
    offsets: Offsets = field(default_factory=dict)
    tail: Counts = field(default_factory=dict)
    end: int = 0


@dataclass(frozen=True)
class Replay:
    """One replay.

    `generation` is the one of the pipeline that it belongs to; `handover` is there where it brings a new one.  `done`
    lists the steps that are; `attempt` numbers the computations, `task` the publications; `was_running` is
    whether the live job was to run when it was planned, and so is to run again.
    """

    id: str
    pipeline: str
    version: str
    asked: Asked
    status: str = "running"
    done: tuple[str, ...] = ()
    cut: Cut | None = None
    settled: Settled | None = None
    parallelism: int = 1
    was_running: bool = True
    attempt: int = 0
    task: int = 0
    generation: int = 0
    handover: Handover | None = None
    figures: Figures = field(default_factory=Figures)
    seconds: Mapping[str, float] = field(default_factory=dict)
    ended: str = ""

    def but(self, **changes: Any) -> Replay:
        """Return a copy with these fields changed."""
        return replace(self, **changes)

    @property
    def brings_generation(self) -> bool:
        """True where it is to bring a new generation into place, and has not ended."""
        return self.status == "running" and self.handover is not None and not self.asked.dry_run

    def published(self, pipeline: Pipeline) -> bool:
        """True where it has published figures of the generation of the pipeline that is deployed, from its source."""
        generation = pipeline.launch.generation if pipeline.launch else 0
        if self.cut is None or (self.pipeline, self.generation, self.status) != (pipeline.name, generation, "done"):
            return False
        return self.cut.topic in ("", pipeline.source.name)

    def overlaps(self, start: int, end: int) -> bool:
        return self.asked.wide_start < end and start < self.asked.wide_end


def to_json(replay: Replay) -> dict[str, Any]:
    return asdict(replay)


def to_bytes(replay: Replay) -> bytes:
    return json.dumps(to_json(replay), sort_keys=True).encode()


def from_bytes(value: bytes) -> Replay:
    """Read a record back, equal; fields of a newer Penstock are ignored.  Raises PenstockError for what is none."""
    try:
        table = known(Replay, json.loads(value))
        cut, settled, handover = table.pop("cut"), table.pop("settled"), table.pop("handover", None)
        return Replay(
            asked=Asked(**known(Asked, table.pop("asked"))),
            done=tuple(table.pop("done")),
            cut=cut and Cut(**known(Cut, cut) | {"low": _offsets(cut["low"]), "high": _offsets(cut["high"])}),
            settled=settled and _settled(settled),
            handover=handover and _handover(handover),
            figures=_figures(table.pop("figures")),
            **table,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PenstockError(f"{TOPIC} holds a record that can't be read: {value[:100]!r}: {error}") from None


def _settled(table: Mapping[str, Any]) -> Settled:
    read = {"out": _offsets(table["out"]), "held": tuple(table.get("held", ()))}
    return Settled(**known(Settled, table) | read)


def _figures(table: Mapping[str, Any]) -> Figures:
    sums = {name: Sum(**known(Sum, item)) for name, item in table.get("sums", {}).items()}
    read = {name: _counts(table[name]) for name in ("before", "computed", "after") if name in table}
    return Figures(**known(Figures, table) | read | {"sums": sums})


def _handover(table: Mapping[str, Any]) -> Handover:
    read = {
        "launch": launch_from_json(table["launch"] or {}),
        "offsets": _offsets(table["offsets"]),
        "tail": _counts(table["tail"]),
    }
    return Handover(**known(Handover, table) | read)


def _offsets(table: Mapping[str, int]) -> dict[int, int]:
    return {int(partition): offset for partition, offset in table.items()}


def _counts(table: Mapping[str, Mapping[str, int]]) -> dict[int, Count]:
    return {int(start): Count(**known(Count, count)) for start, count in table.items()}


class Log(Protocol):
    """What the records need of Kafka."""

    def topics(self, names: Any) -> Mapping[str, Any]: ...
    def create_topic(self, spec: TopicSpec) -> None: ...
    def start_offsets(self, topic: str) -> dict[int, int]: ...
    def end_offsets(self, topic: str, *, committed: bool) -> dict[int, int]: ...
    def read(self, topic: str, start: dict[int, int], end: dict[int, int]) -> Any: ...


class Replays:
    """The replays of one environment; reading never creates the topic."""

    def __init__(self, env: Environment, log: Log, produce: Callable[[str, bytes, bytes], None]) -> None:
        self._env, self._log, self._produce = env, log, produce

    def read(self) -> dict[str, Replay]:
        """Return every replay of this environment by id, in the order in which they were last written."""
        if TOPIC not in self._log.topics([TOPIC]):
            return {}
        prefix = f"{self._env.name}/"
        found: dict[str, Replay] = {}
        start, end = self._log.start_offsets(TOPIC), self._log.end_offsets(TOPIC, committed=True)
        for batch in self._log.read(TOPIC, start, end):
            for item in batch:
                key = (item.key or b"").decode()
                if key.startswith(prefix) and item.value is not None:
                    found.pop(key.removeprefix(prefix), None)
                    found[key.removeprefix(prefix)] = from_bytes(item.value)
        return found

    def write(self, replay: Replay) -> Replay:
        """Write a replay durably and return it.  Creates the topic where there is none."""
        if TOPIC not in self._log.topics([TOPIC]):
            config = {"cleanup.policy": "compact"}
            self._log.create_topic(TopicSpec(TOPIC, 1, self._env.kafka.replication, config, "replays"))
        self._produce(TOPIC, f"{self._env.name}/{replay.id}".encode(), to_bytes(replay))
        return replay
