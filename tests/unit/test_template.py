"""`penstock init`: a project that checks, with the shipped DAGs; nothing that is there is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import DeclarationError
from penstock.load import load_pipelines
from penstock.settings import load_settings
from penstock.template import dags, init


def test_a_new_project_is_sound(tmp_path: Path) -> None:
    written = init(tmp_path / "mine")
    assert {file.name for file in dags().glob("*.py")} <= {file.name for file in written}
    settings = load_settings(tmp_path / "mine", environ={})
    assert [pipeline.name for pipeline in load_pipelines(settings.jobs)] == ["orders_by_minute"]
    assert (tmp_path / "mine" / ".gitignore").read_text() == ".penstock/\n"


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    with pytest.raises(DeclarationError, match="is there and not empty: nothing was written"):
        init(tmp_path / "mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes"]
