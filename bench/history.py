"""A history in event time, read by a live job as ever, and replayed as a whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench import batch, throughput
from bench.batch import Stretch
from bench.stage import Stage
from bench.throughput import Run
from penstock.data.generator import generate
from penstock.data.load import START_MS, Clock, Load
from penstock.data.load import Spread as Keys
from penstock.data.meter import meter
from penstock.data.produce import produce
from penstock.errors import NotEqualError
from penstock.flink.submit import submit_batch
from penstock.pipeline import Pipeline, Topic
from penstock.replay import run as replaying
from penstock.replay.derive import BatchSpec
from penstock.replay.record import Replay
from penstock.replay.scope import Scope, widened
from penstock.replay.steps import Plan
from penstock.replay.verify import files_in
from penstock.services.flink import local
from penstock.wait import Pending, until

HOUR_MS = 3_600_000
#: Seconds of events after the range: they move the watermark past its last window.
AFTER = 60


def fill(stage: Stage, topic: Topic, hours: int, events: int) -> None:
    """Write `events` over `hours` of event time, and as many a second for AFTER seconds more."""
    step = hours * HOUR_MS / events
    count = events + int(AFTER * 1000 / step)
    what = Load(count, seed=1, clock=Clock(step_ms=step), spread=Keys(keys=1_000))
    with meter(f"writing {topic.name}", count) as shown:
        produce(stage.settings.env.kafka, topic, generate(topic, what), progress=shown)


def scope(pipeline: Pipeline, hours: int) -> Scope:
    return widened(pipeline, START_MS, START_MS + hours * HOUR_MS)


def stretch(stage: Stage, pipeline: Pipeline, hours: int, share: float) -> Stretch:
    """Return the first `share` (0 to 1) of the pipeline's log."""
    kafka, topic = stage.services.kafka, pipeline.source.name
    low, end = kafka.start_offsets(topic), kafka.end_offsets(topic, committed=True)
    cut = {partition: low[partition] + int((end[partition] - low[partition]) * share) for partition in end}
    return Stretch(pipeline, scope(pipeline, hours), low, cut)


# --- The bounded job alone, and the one it is held against.


def run_job(stage: Stage, made: Stretch, spec: BatchSpec) -> tuple[Run, int]:
    """Run a bounded job to its end; return what it did a second, and the clicks that its files count."""
    done = throughput.timed(stage, spec, made.records, lambda: submit_batch(stage.settings, spec, stage.progress))
    folder = local(spec.folder)
    assert folder is not None
    return done, clicks(files_in(folder))


def clicks(files: Iterable[Path]) -> int:
    """Return the sum of `clicks` over all rows of the files."""
    return sum(
        int(json.loads(line)["clicks"]) for file in files for line in file.read_text(encoding="utf-8").splitlines()
    )


@dataclass
class Jobs:
    """Rounds of both jobs over one stretch, in turn."""

    stage: Stage
    made: Stretch

    def round(self, number: int) -> tuple[Run, Run]:
        """Return one run of the bare job and one of the replay's.  Raises NotEqualError where they count otherwise."""
        env = self.stage.settings.env
        bare, theirs = run_job(self.stage, self.made, batch.bare_job(self.made, env, number))
        ours, found = run_job(self.stage, self.made, batch.replay_job(self.made, env, number))
        if theirs != found or not found:
            raise NotEqualError(f"the bare job counts {theirs:,} clicks, the replay's {found:,}")
        return bare, ours


# --- A whole replay.


@dataclass(frozen=True)
class Whole:
    """A replay that was published, and the seconds of the wall clock it took, its plan included."""

    replay: Replay
    seconds: float

    def of(self, *steps: str) -> float:
        return sum(self.replay.seconds[step] for step in steps)

    @property
    def rows(self) -> int:
        return sum(count.rows for count in self.replay.figures.after.values())

    @property
    def words(self) -> str:
        """Each step that took a second or more."""
        return ", ".join(f"{step} {took:.1f}" for step, took in self.replay.seconds.items() if took >= 1)


def ready(stage: Stage, pipeline: Pipeline, hours: int, *, rate: float | None = None) -> Plan:
    """Plan a replay of all hours, waiting for the live job to close their windows."""
    wanted = scope(pipeline, hours)
    request = replaying.asked(wanted, dry_run=False, rate=rate, reason="bench")

    def probe() -> Plan | Pending:
        made = replaying.prepare(pipeline, wanted, request, stage.services, stage.settings)
        return Pending(made.refused[0].reason) if made.refused else made

    return until(pipeline.name, probe, timeout=600, interval=1, progress=stage.progress)


def replay(stage: Stage, pipeline: Pipeline, hours: int) -> Whole:
    """Replay all hours, and publish them."""
    ready(stage, pipeline, hours)
    began = time.monotonic()
    made = ready(stage, pipeline, hours)
    done = replaying.run(pipeline, made.replay, stage.services, stage.settings, progress=stage.progress)
    return Whole(done, time.monotonic() - began)
