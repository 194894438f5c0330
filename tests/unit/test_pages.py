"""A page of several drills: each writes its own section, in any order and again."""

from __future__ import annotations

from pathlib import Path

from tests.pages import put


def test_each_section_is_written_anew_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    put(page, "## Two", ["second"])
    put(page, "# Page", ["first", "", "| a |"])
    put(page, "## Three", ["third"])
    put(page, "## Two", ["other"])
    put(page, "# Page", ["anew"])
    assert page.read_text() == "# Page\n\nanew\n\n## Two\n\nother\n\n## Three\n\nthird\n"
