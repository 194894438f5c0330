"""A declaration is read back from the registry as it was, and says of which generation it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.flink.spec import job_spec, version
from penstock.generation import deployed, from_json, launch_to_json, running, stream, to_json
from penstock.load import load_pipelines
from penstock.pipeline import Launch, Pipeline
from penstock.services.registry import Record, from_bytes, to_bytes
from penstock.settings import Environment
from penstock.topics import topic_specs

from ..conftest import ROOT
from .memory import windowed

PIPELINES = [it for folder in ("jobs", "tests/e2e/jobs") for it in load_pipelines(ROOT / Path(folder))]
LAUNCH = Launch(2, 0, 3_600_000, ((0, 1), (1, 2)), ((0, 5), (1, 6)))


@pytest.mark.parametrize("pipeline", PIPELINES, ids=[it.name for it in PIPELINES])
def test_a_declaration_is_read_back_equal_and_of_the_same_version(pipeline: Pipeline) -> None:
    record = from_bytes(to_bytes(Record(pipeline.name, declared=to_json(pipeline))))
    found = running(record)
    assert found == pipeline
    assert found is not None and version(found) == version(pipeline)
    assert from_json(json.loads(json.dumps(to_json(pipeline)))) == pipeline


def test_a_record_of_old_tells_no_declaration() -> None:
    assert running(Record("sales")) is None


def test_a_generation_has_a_job_topics_and_a_group_of_its_own_and_the_same_version() -> None:
    record = from_bytes(to_bytes(Record("sales", launch=launch_to_json(LAUNCH))))
    first, third = windowed(), deployed(windowed(), record)
    assert third.launch == LAUNCH
    assert (first.stream, third.stream, stream("sales", record)) == ("sales", "sales.2", "sales.2")
    env = Environment(name="test")
    specs = [job_spec(it, env, startup="specific-offsets") for it in (first, third)]
    assert specs[0].version == specs[1].version
    assert specs[0].job_id != specs[1].job_id
    assert (specs[0].name, specs[1].name) == ("penstock.sales", "penstock.sales.2")
    assert "'scan.startup.specific-offsets' = 'partition:0,offset:1;partition:1,offset:2'" in specs[1].tables[0]
    names = [{spec.name for spec in topic_specs(it, env) if spec.role != "source"} for it in (first, third)]
    assert not names[0] & names[1]
    assert deployed(third, None) == first
    assert deployed(third, Record("sales")) == first
    assert replace(third, launch=None) == first
