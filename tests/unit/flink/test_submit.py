"""Compiled plans: numbered alike whatever was compiled before, and never seen half written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penstock.flink import submit

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
