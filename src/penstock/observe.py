"""Observe: what is there.  Never changes anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from penstock.flink.spec import job_name
from penstock.generation import deployed, stream
from penstock.older_state import numbers, receipts
from penstock.pipeline import Pipeline
from penstock.replay.record import Replay
from penstock.services.druid import Supervisor
from penstock.services.flink import Job, RestorePoint
from penstock.services.protocols import Services
from penstock.services.registry import Record
from penstock.settings import Environment, Settings
from penstock.topics import registry_topic, topic_specs

if TYPE_CHECKING:  # its module imports the Kafka client
    from penstock.services.kafka import TopicState


@dataclass(frozen=True)
class Observed:
    """One look at an environment.

    `topics` by name (absent ones are absent), `records` by pipeline, `jobs` by pipeline, newest first and ended ones
    too, `supervisors` by datasource, `restore_points` by pipeline for those whose recorded job has ended or is gone,
    `problems` by datasource: what Druid says is wrong with a supervisor that is not healthy, `upgrades` by pipeline: a
    replay that brings a new generation into place and has not ended, `receipts` of the replays of pipelines whose job
    has ended, `checkpoints`: the numbers of the states that those could go on from, by path.
    """

    topics: Mapping[str, TopicState] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)
    jobs: Mapping[str, tuple[Job, ...]] = field(default_factory=dict)
    supervisors: Mapping[str, Supervisor] = field(default_factory=dict)
    restore_points: Mapping[str, RestorePoint] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    upgrades: Mapping[str, str] = field(default_factory=dict)
    receipts: Mapping[str, tuple[Replay, ...]] = field(default_factory=dict)
    checkpoints: Mapping[str, int] = field(default_factory=dict)

    def live(self, pipeline: str) -> list[Job]:
        """Return the pipeline's jobs that run, or are about to, or are about to end."""
        return [job for job in self.jobs.get(pipeline, ()) if job.live or job.leaving]


def observe(pipelines: Sequence[Pipeline], services: Services, settings: Settings) -> Observed:
    """Look at topics, registry, Flink jobs and supervisors.  Raises UnavailableError for the service that is down."""
    env = settings.env
    records = services.registry.read()
    current = [deployed(pipeline, records.get(pipeline.name)) for pipeline in pipelines]
    wanted = {spec.name for pipeline in current for spec in topic_specs(pipeline, env)} | {registry_topic(env).name}
    topics = services.kafka.topics(sorted(wanted))
    names = {pipeline.name for pipeline in pipelines} | set(records)
    by_name: dict[str, list[Job]] = {}
    for job in services.flink.jobs():
        by_name.setdefault(job.name, []).append(job)
    called = {name: job_name(stream(name, records.get(name))) for name in sorted(names)}
    jobs = {name: tuple(by_name[title]) for name, title in called.items() if title in by_name}
    supervisors = {name: item for name, item in services.druid.supervisors().items() if name in names}
    replays = services.replays.read().values()
    upgrades = {it.pipeline: it.id for it in replays if it.brings_generation}
    seen = Observed(topics, records, jobs, supervisors, upgrades=upgrades)
    points = {
        name: services.flink.restore_point(record.job_id, savepoint_dir(env, name))
        for name, record in records.items()
        if record.job_id and record.job_id not in {job.id for job in seen.live(name)}
    }
    problems = {name: services.druid.problem(name) for name, item in supervisors.items() if not item.healthy}
    done = {name: receipts(replays, records[name]) for name in records if not seen.live(name)}
    paths = [path for name in done if done[name] for path in _states(records[name], points.get(name))]
    return replace(
        seen,
        restore_points=points,
        problems={name: text for name, text in problems.items() if text},
        receipts=done,
        checkpoints=numbers(paths),
    )


def _states(record: Record, point: RestorePoint | None) -> list[str | None]:
    """Return every state that a job which has ended could go on from."""
    return [record.savepoint, record.restore, point.path if point is not None else None]


def savepoint_dir(env: Environment, pipeline: str) -> str:
    """Return the URI under which a pipeline's savepoints are kept."""
    return f"{env.flink.state}/savepoints/{pipeline}"
