"""Bounded jobs: a pipeline's own, derived as always, and one written by hand for the same result.

Both stop at the offsets where the topic ends when they start, and are submitted through the same process.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from string import Template

from penstock.flink.spec import JobSpec, job_id, job_spec
from penstock.pipeline import Hop, Pipeline
from penstock.settings import Environment

_SQL = Path(__file__).with_name("bare.sql")
_BOUNDED = "'scan.bounded.mode' = 'latest-offset'"


def penstock_job(pipeline: Pipeline, env: Environment, run: int) -> JobSpec:
    """Return the job that `penstock apply` would start, with all branches, but for the end of its source.

    `run` is part of the environment's name, so every run has a job id and transactional ids of its own.
    """
    spec = job_spec(pipeline, env.model_copy(update={"name": f"bench{run}"}))
    source, *sinks = spec.tables
    return replace(spec, tables=(bounded(source), *sinks))


def bounded(ddl: str) -> str:
    """Return the DDL of a source with one option more."""
    assert ddl.endswith("\n)"), ddl
    return f"{ddl.removesuffix(chr(10) + ')')},\n  {_BOUNDED}\n)"


def bare_job(pipeline: Pipeline, env: Environment, run: int) -> JobSpec:
    """Return `bare.sql` for the pipeline's window: Flink's own connector and format, no branch but the result.

    Parallelism, checkpoints and every other setting are those of the pipeline's job.
    """
    name = f"bare_{pipeline.name}"
    values = {
        "source_topic": pipeline.source.name,
        "out_topic": bare_topic(pipeline),
        "bootstrap": env.kafka.bootstrap,
        "group": f"{name}-{run}",
        "prefix": f"{name}-{run}-",
        "transaction_timeout": f"{env.flink.transaction_timeout * 1000:.0f}",
        "window": _window(pipeline),
    }
    source, sink, insert = Template(_SQL.read_text(encoding="utf-8")).substitute(values).split(";\n\n")
    identity = job_id("bench", name, "", str(run))
    config = {
        **job_spec(pipeline, env).config,
        "pipeline.name": name,
        "$internal.pipeline.job-id": identity,
    }
    statements = f"STATEMENT SET\nBEGIN\n{insert.strip()}\nEND"
    return JobSpec(identity, name, name, "bare", None, "earliest-offset", (source, sink), statements, config)


def bare_topic(pipeline: Pipeline) -> str:
    return f"bench.bare.{pipeline.name}"


def _window(pipeline: Pipeline) -> str:
    sized = "TABLE clicks, DESCRIPTOR(et)"
    if isinstance(pipeline.transform.window, Hop):  # type: ignore[union-attr]
        return f"HOP({sized}, INTERVAL '1' SECOND, INTERVAL '10' SECOND)"
    return f"TUMBLE({sized}, INTERVAL '1' SECOND)"
