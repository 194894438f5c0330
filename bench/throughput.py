"""Bounded jobs over the same topic, bare and Penstock in turn.

Time is from when the source's first task runs to when the job has finished, its last transaction committed.  What comes
before (planning, scheduling, deploying) is the same for both and would only bring them closer together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from bench import declared, jobs
from bench.stage import Stage
from penstock.durations import millis
from penstock.errors import NotEqualError, PenstockError
from penstock.flink.spec import JobSpec
from penstock.flink.submit import submit
from penstock.pipeline import Hop, Pipeline
from penstock.replay.derive import BatchSpec
from penstock.services.flink import Flink
from penstock.services.kafka import Kafka
from penstock.topics import TopicSpec, dlq_topic, late_topic, out_topic, topic_specs
from penstock.wait import Pending, until

TASK_MANAGER = "flink-taskmanager"
FAULTY = declared.windowed("bench_faulty", declared.faulty, declared.TUMBLE)
_runs = count()


@dataclass(frozen=True)
class Run:
    """One job, run to its end: `events` a second, and microseconds of the TaskManager's processor time an event."""

    rate: float
    cpu: float


@dataclass
class Pair:
    """A pipeline and its bare job, and their runs so far; the n-th of both make a round."""

    pipeline: Pipeline
    events: int
    bare: list[Run] = field(default_factory=list)
    ours: list[Run] = field(default_factory=list)

    def measure(self, stage: Stage) -> None:
        """Run both, one after the other, and check that both have counted every event."""
        env = stage.settings.env
        results = _counted(stage, self.pipeline, jobs.bare_topic(self.pipeline))
        self.bare.append(run(stage, jobs.bare_job(self.pipeline, env, next(_runs)), self.events))
        results.expect(self.events)
        results = _counted(stage, self.pipeline, out_topic(self.pipeline.name))
        self.ours.append(run(stage, jobs.penstock_job(self.pipeline, env, next(_runs)), self.events))
        results.expect(self.events)


def prepare(stage: Stage, pipeline: Pipeline) -> None:
    """Create the topics of a pipeline and of its bare job; the source may be there."""
    kafka = Kafka(stage.settings.env.kafka)
    source, *derived = topic_specs(pipeline, stage.settings.env)
    bare = TopicSpec(jobs.bare_topic(pipeline), source.partitions, source.replication, dict(source.config))
    there = kafka.topics([source.name])
    for spec in [source, *derived, bare]:
        if spec.name not in there:
            kafka.create_topic(spec)


def warm_up(stage: Stage, pairs: list[Pipeline], alone: list[Pipeline]) -> None:
    """Run each job once, all together: their plans are then compiled, and the TaskManager's code is hot."""
    env = stage.settings.env
    specs = [make(pipeline, env, next(_runs)) for pipeline in pairs for make in (jobs.bare_job, jobs.penstock_job)]
    specs += [jobs.penstock_job(pipeline, env, next(_runs)) for pipeline in alone]
    submit(stage.settings, specs, stage.progress)
    for spec in specs:
        _finished(stage, Flink(env.flink), spec)


def run(stage: Stage, spec: JobSpec, events: int) -> Run:
    """Submit the job, wait for its end, return what it did a second."""
    return timed(stage, spec, events, lambda: submit(stage.settings, [spec], stage.progress))


def timed(stage: Stage, spec: JobSpec | BatchSpec, events: int, start: Callable[[], None]) -> Run:
    """Call `start`, which submits the job, wait for its end, return what it did a second."""
    before = stage.cpu_seconds(TASK_MANAGER)
    start()
    seconds = _finished(stage, Flink(stage.settings.env.flink), spec)
    cpu = stage.cpu_seconds(TASK_MANAGER) - before
    return Run(events / seconds, cpu * 1e6 / events)


def _finished(stage: Stage, flink: Flink, spec: JobSpec | BatchSpec) -> float:
    def probe() -> Mapping[str, Any] | Pending:
        job = flink.job(spec.job_id)
        if job is None or job.live or job.leaving:
            reason = flink.root_exception(spec.job_id) if job else None
            if reason:
                raise PenstockError(f"{spec.name} failed: {reason}")
            return Pending(job.state if job else "submitted")
        if job.state != "FINISHED":
            raise PenstockError(f"{spec.name} is {job.state}: {flink.root_exception(spec.job_id)}")
        detail = flink.detail(spec.job_id)
        # Flink's REST answers details from a cache of up to 3 s.
        return detail if detail["state"] == job.state else Pending("FINISHED, its times are to come")

    detail = until(spec.name, probe, timeout=300, interval=0.3, progress=stage.progress)
    sources = [vertex["id"] for vertex in detail["vertices"] if vertex["name"].startswith("Source:")]
    rest = f"{stage.settings.env.flink.rest}/jobs/{spec.job_id}/vertices"
    subtasks = [
        task for vertex in sources for task in httpx.get(f"{rest}/{vertex}", trust_env=False).json()["subtasks"]
    ]
    return float(detail["end-time"] - first_running(subtasks)) / 1000


def first_running(subtasks: list[Mapping[str, Any]]) -> int:
    """Return when the first of these ended subtasks began to run (epoch ms): its end less the time it ran."""
    if not subtasks or any(task["attempt"] != 0 for task in subtasks):
        raise PenstockError("the job has no source, or was restarted: its time says nothing")
    return min(int(task["end-time"]) - int(task["status-duration"]["RUNNING"]) for task in subtasks)


@dataclass(frozen=True)
class Results:
    """A result topic's new rows, for a window that holds each event `times` times."""

    kafka: Kafka
    topic: str
    start: dict[int, int]
    times: int

    def clicks(self) -> int:
        """Return how many events the committed rows since `start` have counted."""
        end = self.kafka.end_offsets(self.topic, committed=True)
        batches = self.kafka.read(self.topic, self.start, end)
        found = sum(int(json.loads(record.value or b"{}")["clicks"]) for batch in batches for record in batch)
        return found // self.times

    def expect(self, events: int) -> None:
        """Raise NotEqualError unless every event was counted: a job that loses some is no measure of speed."""
        if (found := self.clicks()) != events:
            raise NotEqualError(f"{self.topic}: {found:,} events are counted, {events:,} were there")


def _counted(stage: Stage, pipeline: Pipeline, topic: str) -> Results:
    kafka = Kafka(stage.settings.env.kafka)
    window = pipeline.transform.window  # type: ignore[union-attr]
    times = millis(window.size) // millis(window.slide) if isinstance(window, Hop) else 1
    return Results(kafka, topic, kafka.end_offsets(topic, committed=True), times)


def run_faulty(stage: Stage, events: int) -> tuple[Run, int, int]:
    """Run the tumbling job over the faulty topic; return its run, and how many rows are late and dead letters.

    Counted, late and dead-lettered make up what was there, or NotEqualError is raised.
    """
    results = _counted(stage, FAULTY, out_topic(FAULTY.name))
    rejected = {topic: results.kafka.end_offsets(topic, committed=True) for topic in _rejected_topics()}
    done = run(stage, jobs.penstock_job(FAULTY, stage.settings.env, next(_runs)), events)
    late, dead = (_records(results.kafka, topic, start) for topic, start in rejected.items())
    results.expect(events - late - dead)
    return done, late, dead


def _rejected_topics() -> tuple[str, str]:
    return late_topic(FAULTY.name), dlq_topic(FAULTY.name)


def _records(kafka: Kafka, topic: str, start: dict[int, int]) -> int:
    return sum(len(batch) for batch in kafka.read(topic, start, kafka.end_offsets(topic, committed=True)))
