"""Health: what is unhealthy, since when, and what the likely cause is.  Looks, and changes nothing.

It restarts nothing either: Flink, Druid and the process manager heal themselves; this is for those who wonder.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from penstock.errors import NoDatasourceError, PenstockError, UnavailableError
from penstock.flink.spec import job_name
from penstock.generation import stream
from penstock.pipeline import Pipeline
from penstock.replay.record import Replay
from penstock.services.protocols import Services
from penstock.services.registry import Record
from penstock.settings import Settings
from penstock.topics import out_topic

#: Seconds without a checkpoint after which nothing that is computed is committed any more.
STALE = 60.0

#: What can't be looked at while a service is unhealthy.
HIDES = {"Kafka": ("job", "supervisor"), "Flink": ("job",), "Druid": ("supervisor",)}

#: A job that Flink brings back, or has no slots for.
NOT_RUNNING = "not running"

#: A service that answers, and does not let us in.
REFUSING = "refusing"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: of a `pipeline` ("" for a service), what, why, since when (epoch s).

    `since` is when it was first seen; `new` is True at that first look.
    """

    pipeline: str
    subject: str
    state: str
    cause: str
    since: float = 0.0
    new: bool = False

    @property
    def key(self) -> str:
        return f"{self.pipeline}/{self.subject}/{self.state}"

    def __str__(self) -> str:
        whose = f"{self.pipeline}: " if self.pipeline else ""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.since))
        return f"{whose}{self.subject} is {self.state} since {since}: {self.cause}"


def look(pipelines: Sequence[Pipeline], services: Services, *, now: float | None = None) -> list[Finding]:
    """Return what is unhealthy now; a service that does not answer hides what depends on it."""
    at = time.time() if now is None else now
    found = services_down(services)
    hidden = _hidden(found)
    if hidden == {"job", "supervisor"}:
        return found
    records, replays = services.registry.read(), services.replays.read()
    for pipeline in pipelines:
        record = records.get(pipeline.name)
        if record is None or record.status in ("new", "removed"):
            continue
        if "job" not in hidden:
            found += _job(record, replays.values(), services, at)
        if "supervisor" not in hidden:
            found += _supervisor(record, replays.values(), services)
    return found


def _hidden(found: Iterable[Finding]) -> set[str]:
    """Return the subjects that what is found keeps from being looked at."""
    return {subject for item in found if not item.pipeline for subject in HIDES.get(item.subject, ())}


def services_down(services: Services) -> list[Finding]:
    """Return the services that do not answer or refuse, with what they say; and a Flink without a TaskManager."""
    found = []
    calls: dict[str, Callable[[], object]] = {
        "Kafka": lambda: services.kafka.topics(()),
        "Flink": services.flink.overview,
        "Druid": services.druid.supervisors,
        "Druid's broker": lambda: services.druid.sql("SELECT 1"),
    }
    for name, call in calls.items():
        try:
            answer = call()
        except NoDatasourceError:
            continue
        except PenstockError as error:
            state = "unavailable" if isinstance(error, UnavailableError) else REFUSING
            found.append(Finding("", name, state, error.message))
            continue
        if name == "Flink" and isinstance(answer, dict) and answer.get("taskmanagers") == 0:
            cause = "no job can run; `penstock logs flink-taskmanager` says why"
            found.append(Finding("", "Flink", "without a TaskManager", cause))
    return found


def _job(record: Record, replays: Iterable[Replay], services: Services, now: float) -> list[Finding]:
    name, flink = record.pipeline, services.flink
    if record.status in ("stopped", "stopping"):
        mine = [it for it in replays if it.pipeline == name and it.status == "running"]
        return [
            _stopped(name, it) for it in mine if "stop" in it.done or (it.brings_generation and "catch up" in it.done)
        ][:1]
    job = next((job for job in flink.jobs() if job.id == record.job_id), None)
    if job is None:
        called = job_name(stream(name, record))
        return [Finding(name, "job", "gone", f"Flink does not know {called} {record.job_id}: `penstock apply`")]
    if not job.running:
        state, tasks = job.state.lower(), f"{job.running_tasks} of {job.total_tasks} tasks run"
        cause = f"{tasks}: {flink.root_exception(job.id) or 'are slots free?'}"
        # One name for all that a job goes through on its way back: it is one and the same illness.
        return [Finding(name, "job", *((NOT_RUNNING, f"{state}, {cause}") if job.live else (state, cause)))]
    taken = flink.checkpointed(job.id)
    began = max(taken or 0, job.started, flink.deployed(job.id)) / 1000
    if began and now - began > STALE:
        why = flink.root_exception(job.id) or "see Flink"
        cause = f"none for {now - began:,.0f} s, so that nothing is committed: {why}"
        return [Finding(name, "job", "without checkpoints", cause)]
    return []


def _stopped(name: str, by: Replay) -> Finding:
    if by.brings_generation:
        cause = f"upgrade {by.id} is not finished: `penstock upgrade {name}`"
        return Finding(name, "job", "stopped by an upgrade", cause)
    return Finding(
        name, "job", "stopped by a replay", f"replay {by.id} is not finished: `penstock replay --id {by.id}`"
    )


def _supervisor(record: Record, replays: Iterable[Replay], services: Services) -> list[Finding]:
    name = record.pipeline
    there = services.druid.supervisors().get(name)
    if there is None:
        return [Finding(name, "supervisor", "absent", "`penstock apply` makes it")]
    if there.running:
        return []
    state = (there.detailed_state or there.state).lower()
    upgrade = next((it for it in replays if it.pipeline == name and it.brings_generation), None)
    resumes = f"`penstock upgrade {name}` goes on with {upgrade.id}" if upgrade else "`penstock apply` resumes it"
    cause = resumes if there.suspended else services.druid.problem(name)
    return [
        Finding(name, "supervisor", state, cause or f"it reads {out_topic(stream(name, record))} once its tasks run")
    ]


def remember(found: Sequence[Finding], settings: Settings, *, now: float | None = None) -> list[Finding]:
    """Return the findings with since when each is there, as this project's looks have seen it.

    What a service that is down hides is neither over nor news when it is seen again.
    """
    at = time.time() if now is None else now
    file = memory(settings)
    before = known(settings)
    dated = [replace(item, since=before.get(item.key, at), new=item.key not in before) for item in found]
    hidden = _hidden(found)
    kept = {key: since for key, since in before.items() if key.split("/")[1] in hidden}
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(kept | {item.key: item.since for item in dated}), encoding="utf-8")
    os.replace(draft, file)
    return dated


def memory(settings: Settings) -> Path:
    """Return the file that keeps what was unhealthy at the last look."""
    return settings.home / f"health-{settings.env.name}.json"


def known(settings: Settings) -> dict[str, float]:
    """Return what was unhealthy at the last look, and since when (epoch s)."""
    return _read(memory(settings))


def _read(file: Path) -> dict[str, float]:
    try:
        return {str(key): float(since) for key, since in json.loads(file.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def check(pipelines: Sequence[Pipeline], services: Services, settings: Settings) -> list[Finding]:
    """Look, and date what is found."""
    return remember(look(pipelines, services), settings)


def to_json(found: Sequence[Finding]) -> list[dict[str, object]]:
    return [asdict(item) for item in found]
