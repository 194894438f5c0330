"""Replays that run beside what is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from bench import history
from bench.stage import Stage
from penstock.errors import PenstockError
from penstock.pipeline import Pipeline
from penstock.replay import run as replaying
from penstock.replay.derive import batch_job_id
from penstock.settings import Settings
from penstock.wait import Silent

#: Kafka's own figure of each consumer: milliseconds for which the broker held its answers back, at the most.
THROTTLED = "fetch-throttle-time-max"
#: Seconds between two looks at it.
LOOK = 2.0


@dataclass
class Beside:
    """What the replays did meanwhile: how many ended, and for how long the broker held consumers back (ms, the most).

    It is their progress, too: each sign of it is a moment to look.
    """

    stage: Stage
    live: str
    done: int = 0
    job: str = ""
    held: float = 0.0
    live_held: float = 0.0
    failure: BaseException | None = None
    looked: float = 0.0

    def update(self, _: str) -> None:
        if time.monotonic() - self.looked >= LOOK:
            self.looked = time.monotonic()
            self.held = max(self.held, held_back(self.stage, self.job))
            self.live_held = max(self.live_held, held_back(self.stage, self.live))


@contextmanager
def replays(stage: Stage, pipeline: Pipeline, hours: int, *, live: str, rate: float | None = None) -> Iterator[Beside]:
    """Replay the same hours again and again, all steps of it, until `with` ends; the one under way is finished.

    `live` is the id of the job that runs beside.
    """
    quiet, over = Stage(stage.settings, stage.services, Silent()), threading.Event()
    found = Beside(quiet, live)

    def run() -> None:
        try:
            while not over.is_set():
                made = history.ready(quiet, pipeline, hours, rate=rate)
                found.job = batch_job_id(stage.settings.env.name, made.replay.id, 1)
                replaying.run(pipeline, made.replay, stage.services, stage.settings, progress=found)
                found.done += 1
        except BaseException as error:
            found.failure = error

    thread = threading.Thread(target=run, name="replays beside", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
    if found.failure is not None:
        raise PenstockError(f"the replay beside failed: {found.failure}")


def limited(settings: Settings, bytes_per_second: float) -> Settings:
    """Return the settings with a quota for replays."""
    kafka = settings.env.kafka.model_copy(update={"replay_bytes_per_second": bytes_per_second})
    return settings.model_copy(update={"env": settings.env.model_copy(update={"kafka": kafka})})


def held_back(stage: Stage, job_id: str) -> float:
    """Return how long the broker held an answer back from the consumers of a running job: ms, the most of all."""
    rest = f"{stage.settings.env.flink.rest}/jobs/{job_id}"
    found: list[float] = []
    with httpx.Client(trust_env=False, timeout=30) as client:
        for vertex in client.get(rest).json().get("vertices", []):
            metrics = f"{rest}/vertices/{vertex['id']}/subtasks/metrics"
            names = [item["id"] for item in client.get(metrics).json() if item["id"].endswith(THROTTLED)]
            if names:
                answer: list[dict[str, Any]] = client.get(metrics, params={"get": ",".join(names)}).json()
                found += [float(item["max"]) for item in answer if str(item["max"]) != "NaN"]
    return max(found, default=0.0)


def live_job(stage: Stage, pipeline: Pipeline) -> str:
    """Return the id of the pipeline's job."""
    return stage.services.registry.read()[pipeline.name].job_id
