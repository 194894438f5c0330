"""The command line as a user meets it: exit codes, messages, and never a traceback that was not asked for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock import cli, proof
from penstock.errors import WaitTimeoutError
from penstock.reconcile import Ledger
from penstock.settings import PORT_OFFSETS
from penstock.stack import checks

JOB = """
from penstock import Datasource, Field, Pipeline, Select, Topic
topic = Topic("shop.sold.v1", fields=[Field("at", "timestamp_ms")], event_time="at")
pipeline = Pipeline("{name}", source=topic, transform=Select(), sink=Datasource())
"""
VERBS = "up down status logs doctor check plan apply start stop remove upgrade health maintain init"
VERBS += " produce query watch verify replay replays repair dlq"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one pipeline, whose stack's ports nobody listens on."""
    for name in ("PENSTOCK_ENV", "PENSTOCK_STATE", "PENSTOCK_PORT_BASE", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "penstock.toml").write_text(f"[stack]\nport_base = {unused_base()}\n")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "sales.py").write_text(JOB.format(name="sales"))
    return tmp_path


def unused_base() -> int:
    """Return a base of ports of which Kafka's, Flink's and Druid's are free."""
    for base in range(32_000, 32_600, 100):
        try:
            for name in ("kafka", "flink_rest", "druid_broker", "druid_coordinator"):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", base + PORT_OFFSETS[name]))
        except OSError:
            continue
        return base
    raise RuntimeError("no free ports")


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, by the very function that the console script calls."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["penstock", "--project", str(project), *words])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as left:
            code = left.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call


def process(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "penstock", *words], capture_output=True, text=True, **more)


def test_a_sound_project_is_checked(run: Run) -> None:
    code, out, _ = run("check")
    assert code == 0
    assert out.startswith("sales  Select  shop.sold.v1")


def test_a_job_file_with_a_syntax_error(project: Path) -> None:
    (project / "jobs" / "broken.py").write_text("pipeline = Pipeline(\n")
    done = process("--project", str(project), "check")
    assert done.returncode == 2
    assert done.stderr.startswith("error: jobs/broken.py:1: '(' was never closed: pipeline = Pipeline(")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_two_pipelines_of_one_name(run: Run, project: Path) -> None:
    (project / "jobs" / "twin.py").write_text(JOB.format(name="sales"))
    code, _, err = run("check")
    assert code == 2
    assert "jobs/twin.py: 'sales' is also declared in jobs/sales.py" in err


def test_no_folder_of_jobs(run: Run, project: Path) -> None:
    (project / "jobs" / "sales.py").unlink()
    (project / "jobs").rmdir()
    code, _, err = run("check")
    assert code == 2
    assert f"{project / 'jobs'}: no such folder" in err
    assert 'jobs = "jobs"' in err


def test_no_project(run: Run, project: Path) -> None:
    (project / "penstock.toml").unlink()
    code, _, err = run("check")
    assert code == 2
    assert "no penstock.toml" in err
    assert "--project DIR" in err


def test_an_unknown_verb(run: Run) -> None:
    code, _, err = run("aply")
    assert code == 2
    assert "No such command 'aply'" in err


@pytest.mark.parametrize("verb", ["verify", "watch"])
def test_an_unknown_pipeline(run: Run, verb: str) -> None:
    code, _, err = run(verb, "sails")
    assert code == 2
    assert "no pipeline 'sails' is declared; there are: sales" in err


def test_an_unknown_part(run: Run) -> None:
    code, _, err = run("logs", "druid_indexer")
    assert code == 2
    assert "no part 'druid_indexer' in the stack; there are: zookeeper, kafka, druid-coordinator" in err


def test_a_plan_holds_what_it_allows(run: Run, project: Path) -> None:
    plan = project / "plan.json"
    plan.write_text("{}")
    code, _, err = run("apply", str(plan), "--allow", "stateless-restart")
    assert code == 2
    assert "--allow: a plan that was made already holds what it allows" in err
    assert "penstock plan --allow" in err


# What the machine must offer.


def test_a_state_directory_that_can_not_be_written(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "file").touch()
    monkeypatch.setenv("PENSTOCK_STATE", str(project / "file" / "state"))
    code, _, err = run("up")
    assert code == 2
    assert "state directory" in err
    assert "PENSTOCK_STATE" in err


def test_no_java_too_little_memory_and_a_port_in_use_are_said_at_once(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(project / "no-jdk"))
    monkeypatch.setattr(checks, "available_bytes", lambda: 1500 << 20)
    base = int((project / "penstock.toml").read_text().split()[-1])
    with socket.create_server(("127.0.0.1", base + PORT_OFFSETS["kafka"])):
        code, _, err = run("up")
    assert code == 2
    assert f"java: no bin/java in {project / 'no-jdk'}" in err
    assert "memory: 1,500 MiB available, at least 4,096 are needed" in err
    assert f"port {base + PORT_OFFSETS['kafka']} of kafka is in use by pid {os.getpid()}" in err


def test_status_without_a_stack_is_json(run: Run) -> None:
    code, out, _ = run("status", "--json")
    assert code == 5
    assert {part["state"] for part in json.loads(out)} == {"stopped"}


# Tracebacks are for those who ask.


def fails(*_: Any, **__: Any) -> None:
    raise ZeroDivisionError("a fault of our own")


def test_an_unexpected_failure_is_one_message(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.load.load_pipelines", fails)
    code, _, err = run("check")
    assert code == 1
    assert "unexpected ZeroDivisionError: a fault of our own" in err
    assert "`penstock --debug VERB ...`" in err


def test_debug_shows_the_traceback(project: Path) -> None:
    (project / "jobs" / "sales.py").unlink()
    (project / "jobs").rmdir()
    done = process("--debug", "--project", str(project), "check")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "load.py" in done.stderr


# What a verb prints when a later part of it fails.


def test_ledgers_that_are_finished_are_printed(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "jobs" / "slow.py").write_text(JOB.format(name="slow"))

    def prove(pipeline: Any, *_: Any, **__: Any) -> Ledger:
        if pipeline.name == "slow":
            raise WaitTimeoutError("the job of slow: 5 records behind the log")
        return Ledger(pipeline.name, {0: 1}, None, 1, 0, 0, 0, 0, 1, 0, 0, [], [])

    monkeypatch.setattr(proof, "prove", prove)
    code, out, err = run("verify", "--json")
    assert code == 5
    assert [ledger["pipeline"] for ledger in json.loads(out)] == ["sales"]
    assert "5 records behind" in err


# Help.


def test_help_names_every_verb_and_imports_nothing_heavy(project: Path) -> None:
    code = (
        "import sys; from penstock.cli import main\n"
        "sys.argv = ['penstock', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'duckdb', 'confluent_kafka', 'pydantic', 'pyarrow'} & set(sys.modules)\n"
        "sys.stderr.write(' '.join(sorted(heavy)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project)
    assert done.stderr == ""
    assert set(VERBS.split()) <= set(done.stdout.split())
    assert "Exit codes: 0 done" in done.stdout


def test_completion_prints_a_script(project: Path) -> None:
    # The shell is named here, not found out from the parent process, which differs by how tests are run.
    environ = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = process("--show-completion", "bash", env=environ, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "complete -o default -F" in done.stdout
