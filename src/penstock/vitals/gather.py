"""Ask the services for a pipeline's vital signs.  One that does not answer leaves its figures out, and is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from penstock.durations import millis
from penstock.errors import NoDatasourceError, PenstockError
from penstock.flink.spec import job_name
from penstock.generation import deployed
from penstock.pipeline import Aggregate, Pipeline
from penstock.services.druid import Supervisor
from penstock.services.flink import Job
from penstock.services.registry import Record
from penstock.settings import Environment
from penstock.topics import consumer_group, dlq_topic, late_topic, out_topic
from penstock.vitals import flink as figures
from penstock.vitals.model import Partition, Run, Running, Served, Vitals

if TYPE_CHECKING:  # its module imports the Kafka client
    from penstock.services.kafka import Record as Message

#: So many offsets are read in well under a second.
TOLD_APART = 1000


class FlinkFigures(Protocol):
    def jobs(self) -> list[Job]: ...
    def detail(self, job_id: str) -> Mapping[str, Any]: ...
    def metrics(self, job_id: str, vertex: str, wanted: Callable[[str], bool]) -> dict[str, float]: ...
    def backpressure(self, job_id: str, vertex: str) -> Mapping[str, Any]: ...
    def checkpoint_stats(self, job_id: str) -> Mapping[str, Any]: ...


class KafkaFigures(Protocol):
    def start_offsets(self, topic: str) -> dict[int, int]: ...
    def end_offsets(self, topic: str, *, committed: bool) -> dict[int, int]: ...
    def group_offsets(self, group: str, topic: str) -> dict[int, int]: ...
    def read(self, topic: str, start: Mapping[int, int], end: Mapping[int, int]) -> Iterable[list[Message]]: ...


class DruidFigures(Protocol):
    def supervisors(self) -> dict[str, Supervisor]: ...
    def supervisor_status(self, name: str) -> Mapping[str, Any]: ...
    def sql(self, query: str) -> list[dict[str, Any]]: ...


class Records(Protocol):
    def read(self) -> dict[str, Record]: ...


class AirflowRuns(Protocol):
    def runs(self, pipeline: str) -> list[Run]: ...


@dataclass(frozen=True)
class Sources:
    """Who is asked; `airflow` is None where the environment has none.  `registry` tells which generation runs."""

    kafka: KafkaFigures
    flink: FlinkFigures
    druid: DruidFigures
    registry: Records
    airflow: AirflowRuns | None = None


def gather(pipeline: Pipeline, env: Environment, sources: Sources, clock: Callable[[], float] = time.time) -> Vitals:
    """Return the pipeline's vital signs.  Raises nothing for a service that is down: `problems` names it."""
    problems: dict[str, str] = {}

    @contextmanager
    def asking(service: str) -> Iterator[None]:
        try:
            yield
        except PenstockError as error:
            problems[service] = error.message

    record: Record | None = None
    job: Running | None = None
    metrics: dict[str, float] = {}
    partitions: tuple[Partition, ...] = ()
    kept: dict[str, int] = {}
    served: Served | None = None
    runs: list[Run] = []
    with asking("Kafka"):
        record = sources.registry.read().get(pipeline.name)
        pipeline = deployed(pipeline, record)
    with asking("Flink"):
        job, metrics = _running(pipeline.stream, sources.flink)
    with asking("Kafka"):
        partitions = _partitions(pipeline, env, sources.kafka, metrics)
        topics = late_topic(pipeline.stream), dlq_topic(pipeline.stream)
        kept = {topic: _span(sources.kafka, topic) for topic in topics}
    with asking("Druid"):
        served = _served(pipeline, sources)
    if sources.airflow is not None:
        with asking("Airflow"):
            runs = sources.airflow.runs(pipeline.name)
    return Vitals(
        pipeline=pipeline.name,
        at=int(clock() * 1000),
        job=job,
        stopped=record is not None and record.status == "stopped",
        partitions=partitions,
        kept=kept,
        served=served,
        runs=tuple(runs),
        interval=env.flink.checkpoint_interval * 1000,
        disorder=millis(pipeline.source.out_of_orderness),
        problems=problems,
    )


def _running(stream: str, flink: FlinkFigures) -> tuple[Running | None, dict[str, float]]:
    job = next((job for job in flink.jobs() if job.name == job_name(stream) and (job.live or job.leaving)), None)
    if job is None:
        return None, {}
    metrics: dict[str, float] = {}
    tasks = []
    for vertex in flink.detail(job.id)["vertices"]:
        metrics |= flink.metrics(job.id, vertex["id"], figures.wanted)
        tasks.append(figures.task(vertex["name"], flink.backpressure(job.id, vertex["id"])))
    state = job.state if job.running or job.state != "RUNNING" else "STARTING"
    running = Running(
        id=job.id,
        state=state,
        started=job.started,
        records=figures.records(metrics),
        tasks=tuple(tasks),
        checkpoints=figures.checkpoints(flink.checkpoint_stats(job.id)),
    )
    return running, metrics


def _partitions(
    pipeline: Pipeline, env: Environment, kafka: KafkaFigures, metrics: Mapping[str, float]
) -> tuple[Partition, ...]:
    topic = pipeline.source.name
    ends = kafka.end_offsets(topic, committed=True)
    positions = figures.positions(metrics, kafka.group_offsets(consumer_group(env.name, pipeline.stream), topic))
    marks, idle = figures.watermarks(metrics), figures.idle(metrics)
    return tuple(
        Partition(partition, end, positions.get(partition), marks.get(partition), partition in idle)
        for partition, end in sorted(ends.items())
    )


def _span(kafka: KafkaFigures, topic: str) -> int:
    return sum(kafka.end_offsets(topic, committed=True).values()) - sum(kafka.start_offsets(topic).values())


def _served(pipeline: Pipeline, sources: Sources) -> Served:
    name = pipeline.name
    found = sources.druid.supervisors().get(name)
    if found is None:
        return Served("absent", healthy=False)
    windowed = isinstance(pipeline.transform, Aggregate)
    end = 'MAX("window_end")' if windowed else "TIMESTAMP_TO_MILLIS(MAX(__time))"
    query = f'SELECT COUNT(*) AS n, TIMESTAMP_TO_MILLIS(MAX(__time)) AS newest, {end} AS served FROM "{name}"'
    try:
        row = sources.druid.sql(query)[0]
    except NoDatasourceError:
        row = {"n": 0, "newest": None, "served": None}
    rows = int(row["n"])
    return Served(
        state="SUSPENDED" if found.suspended else found.state,
        healthy=found.healthy and not found.suspended,
        rows=rows,
        newest=int(row["newest"]) if rows else None,
        served_to=int(row["served"]) if rows else None,
        behind=_behind(pipeline, sources),
    )


def _behind(pipeline: Pipeline, sources: Sources) -> int | None:
    """Return how many committed records of the result topic no task has read; None where no task reads.

    As of the supervisor's last look at its tasks, which is every 30 s.

    Druid's offset is the one after its last record, and the markers of transactions follow: a few offsets are read to
    tell them from records, of many it is their number that counts.
    """
    tasks = sources.druid.supervisor_status(pipeline.name).get("activeTasks") or []
    read: dict[int, int] = {}
    for task in tasks:
        for partition, offset in (task.get("currentOffsets") or {}).items():
            read[int(partition)] = max(int(offset), read.get(int(partition), 0))
    if not read:
        return None
    topic = out_topic(pipeline.stream)
    ends = sources.kafka.end_offsets(topic, committed=True)
    unread = {partition: offset for partition, offset in read.items() if offset < ends.get(partition, 0)}
    offsets = sum(ends[partition] - offset for partition, offset in unread.items())
    if not 0 < offsets <= TOLD_APART:
        return offsets
    return sum(map(len, sources.kafka.read(topic, unread, {partition: ends[partition] for partition in unread})))
