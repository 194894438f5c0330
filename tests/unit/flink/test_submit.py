"""Compiled plans: numbered alike whatever was compiled before, and never seen half written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.errors import DeclarationError, PenstockError
from penstock.flink import submit
from penstock.flink.spec import job_spec
from penstock.settings import load_settings
from tests.unit.memory import windowed

PLAN = {"nodes": [{"id": 7}, {"id": 9}], "edges": [{"source": 7, "target": 9}]}
NUMBERED = {"nodes": [{"id": 1}, {"id": 3}], "edges": [{"source": 1, "target": 3}]}


def test_a_plan_is_kept_numbered_from_one_and_its_draft_is_gone(tmp_path: Path) -> None:
    draft, plan = tmp_path / "sales.1.tmp", tmp_path / "sales.json"
    draft.write_text(json.dumps(PLAN))
    submit.keep(draft, plan)
    assert json.loads(plan.read_text()) == NUMBERED
    assert list(tmp_path.iterdir()) == [plan]


def test_a_plan_whose_writing_is_broken_off_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft, plan = tmp_path / "sales.1.tmp", tmp_path / "sales.json"
    draft.write_text(json.dumps(PLAN))
    write = Path.write_text

    def full(self: Path, data: str, **more: str) -> int:
        write(self, data[: len(data) // 2], **more)
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        submit.keep(draft, plan)
    assert not plan.exists(), "the next submission would run half a plan"


def test_jobs_are_submitted_by_the_python_that_has_pyflink(tmp_path: Path) -> None:
    """Where Airflow has constraints of its own, PyFlink lives in another environment."""
    python = tmp_path / "flink-env" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "I am $0 $*"; exit 3\n')
    (tmp_path / "penstock.toml").write_text('[env.native.flink]\npython = "flink-env/python"\n')
    settings = load_settings(tmp_path, environ={})
    with pytest.raises(DeclarationError, match=r"env\.native\.flink\] python: .*flink-env/python can't be run"):
        submit.submit(settings, [job_spec(windowed(), settings.env)])
    python.chmod(0o700)
    with pytest.raises(PenstockError, match=r"I am .*flink-env/python -m penstock\.flink\.submit"):
        submit.submit(settings, [job_spec(windowed(), settings.env)])


#: A PyFlink whose planner is at work for a while, and notes what it did.
PYFLINK = """
import time
from pathlib import Path

class Configuration:
    def set_string(self, key, value): ...

class EnvironmentSettings:
    new_instance = in_streaming_mode = with_configuration = build = lambda *_: EnvironmentSettings

class TableEnvironment:
    create = staticmethod(lambda settings: TableEnvironment)
    def execute_sql(text):
        Path(text).touch()
        time.sleep(3)
"""
CALLER = """
import sys
from pathlib import Path
from penstock.flink.submit import _run
from penstock.wait import Silent
job = {"pipeline": "sales", "config": {}, "tables": [sys.argv[2], sys.argv[3]], "plan": sys.argv[4]}
_run({"rest": None, "jobs": [job]}, Path(sys.argv[1]), Path(sys.argv[1]), Silent())
"""


def plan_by_a_process(folder: Path) -> subprocess.Popen[bytes]:
    """Let a process have a job planned: `folder` gets `begun`, and three seconds later `gone-on`."""
    package = folder / "python" / "pyflink"
    package.mkdir(parents=True)
    for name in ("__init__", "common", "table"):
        (package / f"{name}.py").write_text(PYFLINK)
    words = [str(folder), str(folder / "begun"), str(folder / "gone-on"), str(folder / "plan.json")]
    (folder / "plan.json").touch()
    environ = {**os.environ, "PYTHONPATH": str(package.parent)}
    return subprocess.Popen([sys.executable, "-c", CALLER, *words], env=environ)


def there(file: Path, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return file.exists()


def test_a_planner_whose_caller_was_killed_submits_nothing_any_more(tmp_path: Path) -> None:
    with plan_by_a_process(tmp_path) as caller:
        assert there(tmp_path / "begun", 30)
        caller.kill()
    assert not there(tmp_path / "gone-on", 6)


def test_a_planner_goes_on_while_its_caller_waits(tmp_path: Path) -> None:
    with plan_by_a_process(tmp_path) as caller:
        assert caller.wait(60) == 0
    assert (tmp_path / "gone-on").exists()
