"""Replays that run beside what is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from bench import history
from bench.stage import Stage
from penstock.errors import PenstockError, RefusedError
from penstock.pipeline import Pipeline
from penstock.replay import run as replaying
from penstock.replay.derive import batch_job_id
from penstock.settings import Settings
from penstock.wait import Silent

#: Kafka's own figure of each consumer: milliseconds for which the broker held its answers back, at the most.
THROTTLED = "fetch-throttle-time-max"
#: Seconds between two looks at it.
LOOK = 2.0


class _OverError(Exception):
    """What was measured beside the replay is over."""


@dataclass
class Beside:
    """For how long the broker held consumers back (ms, the most), while replays ran.

    It is their progress, too: each sign of it is a moment to look, and to end.
    """

    stage: Stage
    live: str
    job: str = ""
    held: float = 0.0
    live_held: float = 0.0
    failure: BaseException | None = None
    looked: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    def update(self, _: str) -> None:
        if self.over.is_set():
            raise _OverError
        if time.monotonic() - self.looked >= LOOK:
            self.looked = time.monotonic()
            self.held = max(self.held, held_back(self.stage, self.job))
            self.live_held = max(self.live_held, held_back(self.stage, self.live))


@contextmanager
def replays(stage: Stage, pipeline: Pipeline, hours: int, *, live: str, rate: float | None = None) -> Iterator[Beside]:
    """Replay the same hours again and again, all steps of it, until `with` ends; the one under way is then given up.

    `live` is the id of the job that runs beside.
    """
    found = Beside(stage, live)

    def run() -> None:
        try:
            while not found.over.is_set():
                _replay(stage, pipeline, hours, rate, found)
        except BaseException as error:
            found.failure = error

    thread = threading.Thread(target=run, name="replays beside", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.over.set()
        thread.join()
    if found.failure is not None:
        raise PenstockError(f"the replay beside failed: {found.failure!r}")


def _replay(stage: Stage, pipeline: Pipeline, hours: int, rate: float | None, found: Beside) -> None:
    made = history.ready(replace(stage, progress=Silent()), pipeline, hours, rate=rate)
    found.job = batch_job_id(stage.settings.env.name, made.replay.id, 1)
    try:
        replaying.run(pipeline, made.replay, stage.services, stage.settings, progress=found)
    except _OverError:
        try:
            replaying.abandon(pipeline, made.replay, stage.services, stage.settings)
        except RefusedError:
            # Druid is publishing it: it is soon done.
            replaying.run(pipeline, made.replay, stage.services, stage.settings)


def limited(settings: Settings, bytes_per_second: float) -> Settings:
    """Return the settings with a quota for replays."""
    kafka = settings.env.kafka.model_copy(update={"replay_bytes_per_second": bytes_per_second})
    return settings.model_copy(update={"env": settings.env.model_copy(update={"kafka": kafka})})


def held_back(stage: Stage, job_id: str) -> float:
    """Return how long the broker held an answer back from the consumers of a running job: ms, the most of all."""
    rest, found = f"{stage.settings.env.flink.rest}/jobs/{job_id}", [0.0]
    with httpx.Client(trust_env=False, timeout=30) as client:

        def ask(path: str, **params: str) -> Any:
            """Return Flink's answer; nothing for a job that has ended or is not there yet."""
            try:
                answer = client.get(f"{rest}{path}", params=params)
            except httpx.HTTPError:
                return {}
            return {} if answer.is_error else answer.json()

        for vertex in dict(ask("")).get("vertices", []):
            metrics = f"/vertices/{vertex['id']}/subtasks/metrics"
            names = [item["id"] for item in ask(metrics) if item["id"].endswith(THROTTLED)]
            values = ask(metrics, get=",".join(names)) if names else []
            found += [float(item["max"]) for item in values if item["max"] != "NaN"]
    return max(found)


def live_job(stage: Stage, pipeline: Pipeline) -> str:
    """Return the id of the pipeline's job."""
    return stage.services.registry.read()[pipeline.name].job_id
