"""A pipeline's vital signs at one moment, and which of them deserve attention.  Pure.

Times are epoch milliseconds, sizes bytes, shares 0 to 1.  Counts of records are Flink's own since the job's last start:
they begin anew with each; the whole account, from the log's first record, is `penstock verify`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["", "warning", "bad"]

#: Of a second.  Flink calls more than half "high"; a task that is busy for nine tenths has no room for a burst.
HIGH_BACKPRESSURE, HIGH_BUSY = 0.5, 0.9
#: Seconds that the lag may take to be read at the present rate.
CATCH_UP = 60.0
#: A checkpoint may be this many intervals old, and never less than these seconds (a busy machine), before it is told.
OLD_CHECKPOINT_INTERVALS, OLD_CHECKPOINT = 10, 60.0


@dataclass(frozen=True)
class Partition:
    """A source partition: `position` is the next offset that the job reads, `end` the last stable offset.

    `watermark` is None before its first record; an `idle` partition holds no window back.
    """

    partition: int
    end: int
    position: int | None = None
    watermark: int | None = None
    idle: bool = False

    @property
    def lag(self) -> int | None:
        """Offsets that can be read and were not: markers of a transactional producer count as such."""
        return None if self.position is None else max(0, self.end - self.position)


@dataclass(frozen=True)
class Task:
    """A chain of operators: the greatest shares of a second, over its subtasks, that it was busy or held up."""

    name: str
    busy: float | None = None
    backpressured: float | None = None


@dataclass(frozen=True)
class Checkpoints:
    """`completed_at` to `size` are of the newest completed one; `last_failed` says that one failed since."""

    completed: int = 0
    failed: int = 0
    restored: int = 0
    completed_at: int | None = None
    duration: int = 0
    size: int = 0
    last_failed: bool = False


@dataclass(frozen=True)
class Records:
    """Records since the job's start; `dropped` are rows that a window refused, of which no topic tells."""

    read: int = 0
    out: int = 0
    late: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    per_second: float = 0.0


@dataclass(frozen=True)
class Running:
    """The pipeline's Flink job."""

    id: str
    state: str
    started: int
    records: Records = field(default_factory=Records)
    tasks: tuple[Task, ...] = ()
    checkpoints: Checkpoints = field(default_factory=Checkpoints)


@dataclass(frozen=True)
class Served:
    """What Druid answers with: `newest` is the greatest `__time`, `served_to` the end of the newest window.

    `behind` counts committed records of the result topic that Druid has not read; None where no task reads.
    """

    state: str
    healthy: bool
    rows: int = 0
    newest: int | None = None
    served_to: int | None = None
    behind: int | None = None


@dataclass(frozen=True)
class Run:
    """A run of a DAG that concerns the pipeline."""

    dag: str
    id: str
    state: str
    started: int | None = None
    ended: int | None = None


@dataclass(frozen=True)
class Vitals:
    """All of it.  What could not be asked is None or empty, and `problems` says why, by service.

    `stopped` says that `penstock stop` has ended its job.  `kept` is how many offsets the late and dead-letter topics
    span, markers of transactions among them: at most so many records are in there.  `interval` (checkpoints) and
    `disorder` (of event time) are the declared ones, in ms.
    """

    pipeline: str
    at: int
    job: Running | None = None
    stopped: bool = False
    partitions: tuple[Partition, ...] = ()
    kept: Mapping[str, int] = field(default_factory=dict)
    served: Served | None = None
    runs: tuple[Run, ...] = ()
    interval: float = 1000.0
    disorder: int = 0
    problems: Mapping[str, str] = field(default_factory=dict)


def watermark(vitals: Vitals) -> int | None:
    """Return how far event time has come: the least of the partitions that are not idle; None before that.

    Where all are idle it stands where the last of them has left it.
    """
    known = [item.watermark for item in vitals.partitions if not item.idle]
    if not known:
        return max((item.watermark for item in vitals.partitions if item.watermark is not None), default=None)
    return min((mark for mark in known if mark is not None), default=None) if None not in known else None


def partition_level(vitals: Vitals, item: Partition) -> Level:
    """Tell a partition that the job does not keep up with, or that holds back the windows of the others."""
    if vitals.job and item.lag and item.lag > CATCH_UP * vitals.job.records.per_second:
        return "warning"
    newest = max((other.watermark for other in vitals.partitions if other.watermark is not None), default=None)
    if item.idle or newest is None:
        return ""
    held = item.watermark is None or newest - item.watermark > max(vitals.disorder, 60_000)
    return "warning" if held else ""


def task_level(task: Task) -> Level:
    if (task.backpressured or 0) > HIGH_BACKPRESSURE or (task.busy or 0) > HIGH_BUSY:
        return "warning"
    return ""


def checkpoint_level(vitals: Vitals) -> Level:
    """Tell when a failure would repeat much work: no checkpoint, an old one, or one that failed since."""
    if vitals.job is None:
        return ""
    found, limit = vitals.job.checkpoints, max(OLD_CHECKPOINT * 1000, OLD_CHECKPOINT_INTERVALS * vitals.interval)
    since = found.completed_at or vitals.job.started
    if vitals.at - since > limit:
        return "bad"
    return "warning" if found.last_failed else ""


def attention(vitals: Vitals) -> list[tuple[Level, str]]:
    """Return what deserves an operator's eye, the worst first, each in one line."""
    found: list[tuple[Level, str]] = [("bad", f"{name}: {why}") for name, why in vitals.problems.items()]
    job, served = vitals.job, vitals.served
    if job is None and "Flink" not in vitals.problems:
        if vitals.stopped:
            found.append(("warning", f"stopped by hand: `penstock start {vitals.pipeline}` resumes it"))
        else:
            found.append(("bad", "no job runs: `penstock plan` says why"))
    if job is not None:
        found += _of_job(vitals, job)
    found += [
        ("warning", f"partition {item.partition} lags, or holds windows back")
        for item in vitals.partitions
        if partition_level(vitals, item)
    ]
    if served is not None and not served.healthy:
        found.append(("bad", f"Druid's supervisor is {served.state}: `penstock plan` says why"))
    if vitals.runs and vitals.runs[0].state == "failed":
        found.append(("warning", f"the last run of {vitals.runs[0].dag} failed"))
    return sorted(found, key=lambda item: item[0] != "bad")


def _of_job(vitals: Vitals, job: Running) -> list[tuple[Level, str]]:
    found: list[tuple[Level, str]] = []
    if job.state != "RUNNING":
        found.append(("bad", f"the job is {job.state}"))
    if job.records.dropped:
        text = f"{job.records.dropped:,} rows were dropped by a window: `penstock verify`, then `penstock repair`"
        found.append(("bad", text))
    if job.records.dead_lettered:
        found.append(("warning", f"{job.records.dead_lettered:,} records could not be read: they are dead-lettered"))
    if level := checkpoint_level(vitals):
        found.append((level, "checkpoints are old, or fail"))
    found += [("warning", f"{task.name} is held up, or busy all the time") for task in job.tasks if task_level(task)]
    return found
