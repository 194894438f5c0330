"""Airflow among the parts: secrets, database, and a stack with it, without it, and with it again."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from configparser import ConfigParser

import pytest

from penstock.cli.stack import airflow_line
from penstock.errors import DeclarationError, PenstockError
from penstock.settings import Settings
from penstock.stack import airflow, checks, down, probes, processes, status, up
from penstock.stack.layout import layout
from penstock.stack.manager import Manager
from penstock.stack.parts import parts
from penstock.stack.probes import airflow_api, airflow_job
from penstock.stack.render import render
from penstock.wait import Pending

from .conftest import Notes
from .test_parts import JAVA

pytestmark = pytest.mark.usefixtures("healthy", "with_airflow")

AIRFLOW = {"airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"}


def test_it_is_started_with_the_stack(settings: Settings) -> None:
    found = {part.name: part for part in up(settings)}
    assert set(found) >= AIRFLOW
    assert all(part.healthy and part.pid for part in found.values())
    home = layout(settings).airflow
    stack = f"{settings.stack.state} {settings.stack.port_base}"
    config = layout(settings).conf / "airflow-api-server" / "airflow.cfg"
    assert (home / "migrations").read_text() == f"{stack} {config}\n"
    assert f"begins in {settings.root}" in layout(settings).log_file("airflow-scheduler").read_text()
    down(settings)
    up(settings)
    assert (home / "migrations").read_text().count("\n") == 1, "the schema is looked at only for a new version"


def test_secrets_are_their_owners_alone_and_stay(settings: Settings) -> None:
    up(settings)
    home = layout(settings).airflow
    before = {name: (home / name).read_text() for name in airflow.SECRETS}
    assert {stat.S_IMODE((home / name).stat().st_mode) for name in airflow.SECRETS} == {0o600}
    rendered = "\n".join(render(settings, JAVA).values())
    password = json.loads(before["passwords.json"])["admin"]
    assert len({*before.values(), password}) == len(before) + 1
    assert not any(secret in rendered for secret in [*before.values(), password])
    airflow.prepare(settings)
    assert {name: (home / name).read_text() for name in airflow.SECRETS} == before


def test_a_secret_that_was_half_written_is_written_anew(settings: Settings) -> None:
    home = layout(settings).airflow
    home.mkdir(parents=True)
    (home / "fernet_key.new").write_text("half")
    airflow.prepare(settings)
    assert len((home / "fernet_key").read_text()) == 44
    assert not (home / "fernet_key.new").exists()


def test_status_tells_how_to_log_in(settings: Settings) -> None:
    assert airflow_line(settings) == ""
    up(settings)
    password = json.loads((layout(settings).airflow / "passwords.json").read_text())["admin"]
    url = f"http://127.0.0.1:{settings.stack.port('airflow_api')}"
    assert airflow_line(settings).startswith(f"Airflow: {url}  user admin  password {password}  (kept in ")


def test_left_out_it_is_not_there_and_the_next_up_starts_it(settings: Settings, notes: Notes) -> None:
    found = up(settings, notes, without=["airflow"])
    assert not {part.name for part in found} & AIRFLOW
    assert {part.name for part in status(settings)} == {part.name for part in found}
    assert "left out; `penstock up` starts it" in airflow_line(settings)
    assert not (layout(settings).airflow / "fernet_key").exists()

    whole = up(settings, notes)
    assert {part.name for part in whole} - {part.name for part in found} == AIRFLOW
    kept = {part.name: part.pid for part in found}
    assert {part.name: part.pid for part in whole if part.name in kept} == kept, "what ran is left alone"

    again = up(settings, notes, without=["airflow"])
    assert {part.name: part.pid for part in again} == kept
    running = {name for name, info in Manager(layout(settings)).infos().items() if info.pid}
    assert not running & AIRFLOW, "left out, it does not run on"


def test_only_what_nothing_needs_can_be_left_out(settings: Settings) -> None:
    with pytest.raises(DeclarationError, match=r"--without kafka: only airflow can be left out"):
        up(settings, without=["airflow", "kafka"])


def test_a_database_that_cannot_be_made_is_told(settings: Settings) -> None:
    settings.stack.state.mkdir()
    (settings.stack.state / "fail-migration").touch()
    with pytest.raises(PenstockError, match=r"can't be made:\n    no such revision") as caught:
        up(settings)
    assert "penstock up --without airflow" in str(caught.value.hint)
    (settings.stack.state / "fail-migration").unlink()
    assert all(part.healthy for part in up(settings))


def test_where_it_is_not_installed_the_stack_goes_without(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow, "installed", lambda: False)
    assert not {part.name for part in up(settings)} & AIRFLOW
    assert "not installed" in airflow_line(settings)
    assert checks.airflow_check().state == "warning"


def test_all_its_parts_read_the_same_settings(settings: Settings) -> None:
    files = render(settings, JAVA)
    texts = {files[layout(settings).conf / name / "airflow.cfg"] for name in AIRFLOW}
    assert len(texts) == 1
    config = ConfigParser(interpolation=None)
    config.read_string(texts.pop())
    assert config["core"]["dags_folder"] == str(settings.dags)
    home = layout(settings).airflow
    told = {config["core"]["fernet_key_cmd"], config["api"]["secret_key_cmd"], config["api_auth"]["jwt_secret_cmd"]}
    assert told == {f"cat {home / name}" for name in airflow.SECRETS if name != "passwords.json"}
    assert config["core"]["simple_auth_manager_passwords_file"] == str(home / "passwords.json")


def test_its_log_servers_are_not_started(settings: Settings) -> None:
    """They listen on every interface."""
    commands = {part.name: part.command for part in parts(settings)}
    assert "--skip-serve-logs" in commands["airflow-scheduler"]
    assert "--skip-serve-logs" in commands["airflow-triggerer"]


def test_its_processes_keep_the_mark_they_are_known_by(settings: Settings) -> None:
    """They set their own title, by default over the environment that the system shows of a process."""
    title = "import setproctitle as s, time; s.setproctitle('x' * 4000); print('named', flush=True); time.sleep(60)"
    own = airflow.environment(settings, "airflow-scheduler")
    environment = {**os.environ, **own, "PATH": os.environ["PATH"], processes.MARK: str(settings.stack.state)}
    with subprocess.Popen([sys.executable, "-c", title], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"named\n"
        try:
            assert [it.pid for it in processes.own(settings.stack.state)] == [process.pid]
        finally:
            process.kill()


def test_another_airflows_settings_stay_out(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__HOST", "0.0.0.0")
    up(settings)
    for process in processes.own(settings.stack.state):
        assert "AIRFLOW__API__HOST" not in process.environ()


HEALTH = {
    "metadatabase": {"status": "healthy"},
    "scheduler": {"status": "healthy", "latest_scheduler_heartbeat": "2026-01-01T00:00:00.1+00:00"},
    "triggerer": {"status": "unhealthy", "latest_triggerer_heartbeat": "2026-01-01T00:00:00.1+00:00"},
    "dag_processor": {"status": None, "latest_dag_processor_heartbeat": None},
}
SLOW = (0, "no answer within 1.5 s")
REFUSED = (0, "connection refused")


@pytest.mark.parametrize(
    ("job", "answers", "told"),
    [
        (None, {"execution": (200, {})}, "serves"),
        (None, {"execution": SLOW}, Pending("tasks can't report yet: no answer within 1.5 s")),
        (None, {"monitor": REFUSED}, Pending("connection refused")),
        (None, {"monitor": (200, {"metadatabase": {"status": "unhealthy"}})}, Pending("its database does not answer")),
        ("scheduler", {}, "heartbeats"),
        ("triggerer", {}, Pending("last heartbeat: 2026-01-01T00:00:00")),
        ("dag_processor", {}, Pending("last heartbeat: never")),
        ("scheduler", {"monitor": REFUSED}, Pending("waits for the API server")),
    ],
)
def test_probes(job: str | None, answers: dict[str, object], told: object, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"monitor": (200, HEALTH), **answers}
    monkeypatch.setattr(probes, "get", lambda url: next(answer for name, answer in found.items() if f"/{name}" in url))
    assert (airflow_api("http://x") if job is None else airflow_job("http://x", job)) == told
