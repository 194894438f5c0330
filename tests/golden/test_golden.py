"""Every artefact derived from the shipped jobs, pinned: a change of derivation shows as a diff of these files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock import oracle
from penstock.druid import supervisor_spec
from penstock.flink.spec import job_spec
from penstock.load import load_pipelines
from penstock.pipeline import Pipeline
from penstock.replay.derive import batch_spec, publish_spec
from penstock.replay.scope import Scope, scope
from penstock.settings import Environment
from penstock.topics import topic_specs

from ..conftest import Golden

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent
ENV = Environment(name="golden")
PIPELINES = load_pipelines(ROOT / "jobs")


def a_day(pipeline: Pipeline) -> Scope:
    return scope(pipeline, "2013-02-01", "2013-02-02")


def artefacts(pipeline: Pipeline) -> dict[str, str]:
    spec = job_spec(pipeline, ENV)
    topics = [vars(topic) for topic in topic_specs(pipeline, ENV)]
    config = "\n".join(f"SET '{key}' = '{value}';" for key, value in spec.config.items())
    bounded = batch_spec(
        pipeline,
        ENV,
        a_day(pipeline),
        replay="r",
        attempt=1,
        low={0: 10, 1: 20},
        cut={0: 100, 1: 200},
        parallelism=2,
    )
    events = oracle.events_query(pipeline.source, pipeline.transform.where)
    return {
        "topics.json": json.dumps(topics, indent=2),
        "job.sql": "\n\n".join(
            [f"-- version {spec.version}", config, *(f"{t};" for t in spec.tables), spec.statements]
        ),
        "supervisor.json": json.dumps(supervisor_spec(pipeline, ENV), indent=2),
        "replay.sql": "\n\n".join([*(f"{t};" for t in bounded.tables), f"{bounded.statement};"]),
        "publish.json": json.dumps(publish_spec(pipeline, a_day(pipeline), ["/files/part-0"], identity="t"), indent=2),
        "oracle.sql": f"{events};\n\n{oracle.result_query(pipeline)};",
    }


@pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.name)
def test_derived_artefacts_are_as_committed(pipeline: Pipeline, golden: Golden) -> None:
    for name, text in artefacts(pipeline).items():
        golden.check(GOLDEN / pipeline.name / name, text)


def test_compiled_plans_are_as_committed(tmp_path: Path, golden: Golden) -> None:
    """Flink's own plan of each job: a new Flink or a new derivation that would not fit old state shows here."""
    from penstock.flink.submit import compile_plans

    plans = compile_plans(ROOT / ".penstock" / "jars", [job_spec(pipeline, ENV) for pipeline in PIPELINES], tmp_path)
    for pipeline, text in plans.items():
        golden.check(GOLDEN / pipeline / "plan.json", json.dumps(json.loads(text), indent=1))


def test_versions_change_with_the_job_and_with_nothing_else() -> None:
    from dataclasses import replace

    from penstock.flink.spec import job_id, version

    first = PIPELINES[0]
    assert version(first) == version(replace(first, description="words", parallelism=1))
    assert version(first) != version(replace(first, source=replace(first.source, out_of_orderness="31 min")))
    here = job_spec(first, ENV).job_id
    assert here == job_spec(first, ENV).job_id
    assert here != job_spec(first, Environment(name="other")).job_id
    assert here != job_spec(first, ENV, restore="file:///savepoint").job_id
    assert len(job_id("e", "p", "v", None)) == 32


def test_transactional_prefixes_never_match_each_other() -> None:
    """Kafka's connector aborts by prefix, so no sink's prefix may be the start of another's."""
    options = []
    for pipeline in PIPELINES:
        for table in job_spec(pipeline, ENV).tables[1:]:
            options += [line.split("'")[3] for line in table.splitlines() if "transactional-id-prefix" in line]
    assert len(set(options)) == 3 * len(PIPELINES)
    assert not [(a, b) for a in options for b in options if a != b and b.startswith(a)]
    assert all(prefix.endswith("-") for prefix in options)
