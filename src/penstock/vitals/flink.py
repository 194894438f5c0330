"""Flink's metrics of a job, by their names (2.2), as figures.  Pure.

<subtask>.Source__X.split.<topic>-<partition>.watermark.currentWatermark
<subtask>.Source__X.KafkaSourceReader.topic.<topic>.partition.<partition>.currentOffset
<subtask>.<out|late|dlq>[n]__Writer.numRecordsIn
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from penstock.services.flink import NO_WATERMARK
from penstock.vitals.model import Checkpoints, Records, Task

_WATERMARK = re.compile(r"\.split\..+-(\d+)\.watermark\.currentWatermark$")
_IDLE = re.compile(r"\.split\..+-(\d+)\.watermark\.idleTimeMsPerSecond$")
_OFFSET = re.compile(r"\.KafkaSourceReader\.topic\..+\.partition\.(\d+)\.currentOffset$")
_READ = re.compile(r"^\d+\.Source__[^.]+\.numRecordsIn$")
_RATE = re.compile(r"^\d+\.Source__[^.]+\.numRecordsInPerSecond$")
_WRITTEN = re.compile(r"^\d+\.(out|late|dlq)(?:\[\d+\])?__Writer\.numRecordsIn$")
_DROPPED = re.compile(r"\.numLateRecordsDropped$")

#: A partition that was idle for this share of the last second is idle: nothing waits for it.
_IDLE_MS = 500


def wanted(metric: str) -> bool:
    """Say whether a metric is one of these figures: a job has a thousand others."""
    return any(pattern.search(metric) for pattern in (_WATERMARK, _IDLE, _OFFSET, _READ, _RATE, _WRITTEN, _DROPPED))


def records(metrics: Mapping[str, float]) -> Records:
    """Add up the counters of all subtasks."""
    written = {"out": 0, "late": 0, "dlq": 0}
    for name, value in metrics.items():
        if match := _WRITTEN.search(name):
            written[match[1]] += int(value)
    return Records(
        read=int(_sum(metrics, _READ)),
        out=written["out"],
        late=written["late"],
        dead_lettered=written["dlq"],
        dropped=int(_sum(metrics, _DROPPED)),
        per_second=_sum(metrics, _RATE),
    )


def watermarks(metrics: Mapping[str, float]) -> dict[int, int | None]:
    """Return each source partition's watermark (epoch ms), None before its first record."""
    found = _by_partition(metrics, _WATERMARK)
    return {partition: None if value <= NO_WATERMARK else int(value) for partition, value in found.items()}


def idle(metrics: Mapping[str, float]) -> set[int]:
    """Return the source partitions that are idle now."""
    return {partition for partition, value in _by_partition(metrics, _IDLE).items() if value >= _IDLE_MS}


def positions(metrics: Mapping[str, float], committed: Mapping[int, int]) -> dict[int, int]:
    """Return the next offset of each partition.

    Flink tells the last record's, and nothing (-1) before the first one after a start: then what its group has
    `committed` at the checkpoint that it started from.
    """
    read = {partition: int(value) + 1 for partition, value in _by_partition(metrics, _OFFSET).items() if value >= 0}
    return {partition: max(read.get(partition, 0), committed.get(partition, 0)) for partition in {*read, *committed}}


def task(name: str, backpressure: Mapping[str, Any]) -> Task:
    """Return a vertex from `/backpressure`; its shares are unknown until Flink has taken a sample."""
    if backpressure.get("status") != "ok":
        return Task(short(name))
    subtasks = backpressure.get("subtasks") or []
    return Task(short(name), _greatest(subtasks, "busyRatio"), _greatest(subtasks, "ratio"))


def short(name: str) -> str:
    """Return a chain's name as its operators' kinds: Flink's own fills three lines."""
    plain = re.sub(r"Source: KafkaSource\S*", "source", name)
    words = re.findall(r"(source|[A-Za-z]+)(?:\[\d+\])?(?:: (?:Writer|Committer))?", plain)
    return " > ".join(dict.fromkeys(word for word in words if word not in ("Writer", "Committer")))


def checkpoints(stats: Mapping[str, Any]) -> Checkpoints:
    """Return what `/checkpoints` tells."""
    counts, latest = stats.get("counts", {}), stats.get("latest") or {}
    done, failed = latest.get("completed") or {}, latest.get("failed") or {}
    finished = done.get("latest_ack_timestamp")
    return Checkpoints(
        completed=int(counts.get("completed", 0)),
        failed=int(counts.get("failed", 0)),
        restored=int(counts.get("restored", 0)),
        completed_at=None if finished is None else int(finished),
        duration=int(done.get("end_to_end_duration", 0)),
        size=int(done.get("state_size", 0)),
        last_failed=bool(failed) and int(failed.get("id", 0)) > int(done.get("id", 0)),
    )


def _sum(metrics: Mapping[str, float], pattern: re.Pattern[str]) -> float:
    return sum(value for name, value in metrics.items() if pattern.search(name))


def _by_partition(metrics: Mapping[str, float], pattern: re.Pattern[str]) -> dict[int, float]:
    found = ((pattern.search(name), value) for name, value in metrics.items())
    return {int(match[1]): value for match, value in found if match}


def _greatest(subtasks: Iterable[Mapping[str, Any]], key: str) -> float | None:
    # A subtask that has just started has no figure yet: NaN.
    known = [float(item[key]) for item in subtasks if key in item and float(item[key]) == float(item[key])]
    return max(known, default=None)
