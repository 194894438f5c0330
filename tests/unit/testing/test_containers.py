"""The folder that a session's containers are started from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from penstock.settings import PORT_OFFSETS, load_settings
from penstock.testing import containers, engine, shipped
from penstock.testing.containers import PORTS
from penstock.testing.project import environ, project

from ...conftest import ROOT


def test_its_env_has_ports_passwords_and_a_name_of_its_own(tmp_path: Path) -> None:
    known = load_settings(ROOT, env="native", environ={})
    one, two = (containers._lay_out(known, tmp_path / name, [ROOT / "compose.airgap.yml"]) for name in "ab")
    assert (tmp_path / "a/.env").stat().st_mode & 0o777 == 0o600
    assert one["COMPOSE_PROJECT_NAME"] != two["COMPOSE_PROJECT_NAME"]
    assert one["PENSTOCK_KAFKA_PASSWORD"] != two["PENSTOCK_KAFKA_PASSWORD"]
    assert one["COMPOSE_FILE"] == f"{tmp_path}/a/docker-compose.yml{os.pathsep}{ROOT / 'compose.airgap.yml'}"
    settings = load_settings(tmp_path / "a", env="compose", environ=one)
    addresses = {settings.env.kafka.bootstrap, settings.env.flink.rest, settings.env.druid.broker}
    addresses.add(settings.env.druid.coordinator)
    ports = {address.rpartition(":")[2] for address in addresses}
    assert ports == {one[name] for name in PORTS}, "nothing else is spoken to than what the session has started"
    assert settings.jobs.resolve() == ROOT / "jobs"
    assert environ(settings) == {"PENSTOCK_ENV": "compose", **one}


def test_every_published_port_of_what_is_started_is_free_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    known = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    monkeypatch.setattr(engine, "services", lambda *_: known)
    wanted = containers._wanted([])
    assert set(wanted) >= {"zookeeper", "kafka", "kafka-init", "postgres", *containers.SERVICES}
    assert not any(name.startswith("airflow") for name in wanted)
    published = {line.split("{")[1].split(":-")[0] for one in wanted.values() for line in one.get("ports", ())}
    assert published == set(PORTS)
    assert set(PORTS.values()) <= set(PORT_OFFSETS)


def test_the_shells_variables_are_hidden_while_compose_runs() -> None:
    os.environ["COMPOSE_FILE"] = os.environ["PENSTOCK_KAFKA_PORT"] = "mine"
    try:
        with containers._without({"PENSTOCK_KAFKA_PORT": "1"}):
            assert not {"COMPOSE_FILE", "PENSTOCK_KAFKA_PORT"} & set(os.environ)
        assert os.environ["COMPOSE_FILE"] == os.environ["PENSTOCK_KAFKA_PORT"] == "mine"
    finally:
        del os.environ["COMPOSE_FILE"], os.environ["PENSTOCK_KAFKA_PORT"]


def test_the_build_context_is_as_the_repositorys_root(tmp_path: Path) -> None:
    shipped.build_context(tmp_path)
    for name in ("pyproject.toml", "infra/images/Dockerfile", "infra/jars/pom.xml", "src/penstock/pipeline.py", "dags"):
        assert (tmp_path / name).exists(), name
    assert shipped._built("", ["pom.xml", "target", "__pycache__"]) == {"target", "__pycache__"}
    assert not list((tmp_path / "infra").rglob("target"))


def test_a_project_on_a_stack_has_its_own_plans_and_the_stacks_jars(tmp_path: Path) -> None:
    stack = load_settings(ROOT, env="native", environ={})
    made = project(stack, tmp_path / "p", ROOT / "tests/e2e/jobs")
    assert made.home == tmp_path / "p/.penstock"
    assert made.jars.resolve() == stack.jars
    assert (made.jobs / "clicks.py").is_file()
    assert load_settings(made.root, env="native", environ=environ(stack)).env == made.env
    assert not project(stack, tmp_path / "q").jobs.exists(), "they are still to be written"
