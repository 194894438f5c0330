"""Compiled plans: numbered alike whatever was compiled before, and never seen half written."""

from __future__ import annotations

import json
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
