"""Bounded batch jobs over the same offsets: the one that a replay runs, and one written by hand for the same result.

Both write files of JSON lines, at the same parallelism, and are submitted by the same process.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

from penstock.flink.spec import job_id
from penstock.pipeline import Pipeline
from penstock.replay.derive import BatchSpec, Offsets, batch_spec
from penstock.replay.scope import Scope
from penstock.settings import Environment

_SQL = Path(__file__).with_name("batch.sql")


@dataclass(frozen=True)
class Stretch:
    """What both read: a pipeline's log from `low` to `cut`, of which `scope` counts."""

    pipeline: Pipeline
    scope: Scope
    low: Offsets
    cut: Offsets

    @property
    def records(self) -> int:
        return sum(end - self.low[partition] for partition, end in self.cut.items())


def replay_job(stretch: Stretch, env: Environment, run: int) -> BatchSpec:
    """Return the job that `penstock replay` would start."""
    return batch_spec(
        stretch.pipeline,
        env,
        stretch.scope,
        replay=f"bench-{run}",
        attempt=1,
        low=stretch.low,
        cut=stretch.cut,
        parallelism=env.flink.parallelism,
    )


def bare_job(stretch: Stretch, env: Environment, run: int) -> BatchSpec:
    """Return `batch.sql`: Flink's own connector and format.  Parallelism and every other setting are the replay's."""
    ours = replay_job(stretch, env, run)
    name = f"bare_{stretch.pipeline.name}"
    identity = job_id("bench", name, "", str(run))
    values = {
        "source_topic": stretch.pipeline.source.name,
        "bootstrap": env.kafka.bootstrap,
        "group": f"{name}-{run}",
        "low": offsets(stretch.low),
        "high": offsets(stretch.cut),
        "folder": f"{env.flink.state}/replays/{name}/{run}",
        "start": str(stretch.scope.start),
        "end": str(stretch.scope.end),
    }
    source, sink, insert = Template(_SQL.read_text(encoding="utf-8")).substitute(values).split(";\n\n")
    return BatchSpec(
        job_id=identity,
        name=name,
        pipeline=name,
        folder=values["folder"],
        tables=(source, sink),
        statement=insert.strip().removesuffix(";"),
        low=stretch.low,
        high=stretch.cut,
        scope=stretch.scope,
        config={**ours.config, "pipeline.name": name, "$internal.pipeline.job-id": identity},
    )


def offsets(of: Offsets) -> str:
    """Write offsets as Flink's connector takes them."""
    return ";".join(f"partition:{partition},offset:{offset}" for partition, offset in sorted(of.items()))
