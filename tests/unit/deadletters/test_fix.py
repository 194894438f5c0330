"""The user's function is found by file or by module, and what is wrong with it is told by file and line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.deadletters import Letter
from penstock.deadletters.fix import Fix, FixError, load_fix
from penstock.errors import DeclarationError

LETTER = Letter(b'{"id": 5}', b"k", "wrong type: x", "shop.sold.v1", 1, 7, 1_000)
FIXES = """
import json
from _shared import SUFFIX

def mend(letter):
    row = json.loads(letter.value)
    return {"id": f"{row['id']}-{letter.offset}{SUFFIX}", "é": 1}

def bad(letter):
    return json.loads(letter.value)["at"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mending.py").write_text(FIXES)
    (tmp_path / "_shared.py").write_text('SUFFIX = "!"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "_shared", raising=False)
    monkeypatch.delitem(__import__("sys").modules, "mending", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", ["mending.py:mend", "./mending.py:mend", "mending:mend"])
def test_a_function_is_found_with_what_it_imports(name: str, folder: Path) -> None:
    fix = load_fix(name, folder)
    assert fix(LETTER) == '{"id":"5-7!","é":1}'.encode()
    assert fix.name == name


def test_bytes_and_none_are_taken_as_they_are() -> None:
    assert Fix("f", Path("f.py"), lambda letter: letter.key)(LETTER) == b"k"
    assert Fix("f", Path("f.py"), lambda _: None)(LETTER) is None


def test_what_a_fix_raises_is_told_by_its_line(folder: Path) -> None:
    with pytest.raises(FixError, match=rf"{folder.name}/mending.py:10: KeyError: 'at'"):
        load_fix("mending.py:bad", folder)(LETTER)
    with pytest.raises(FixError, match="Out of range float values are not JSON compliant"):
        Fix("f", folder / "mending.py", lambda _: {"x": float("nan")})(LETTER)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mending.py", "--fix 'mending.py': it is PATH.py:FUNCTION or MODULE:FUNCTION"),
        ("mending.py:a b", "--fix 'mending.py:a b': it is PATH.py:FUNCTION or MODULE:FUNCTION"),
        ("absent.py:mend", "--fix absent.py:mend: there is no file "),
        ("absent_module:mend", "ModuleNotFoundError: No module named 'absent_module'"),
        ("mending.py:mned", "--fix mending.py:mned: mending.py has no function 'mned'"),
        ("mending.py:FIXED", "--fix mending.py:FIXED: mending.py has no function 'FIXED'"),
        ("torn.py:mend", "/torn.py:1: '(' was never closed"),
        ("failing.py:mend", "/failing.py:2: ZeroDivisionError"),
    ],
)
def test_a_name_that_leads_nowhere_is_a_mistake(name: str, message: str, folder: Path) -> None:
    (folder / "torn.py").write_text("mend = (\n")
    (folder / "failing.py").write_text("\n1 / 0\n")
    (folder / "mending.py").write_text(FIXES + "FIXED = 5\n")
    with pytest.raises(DeclarationError, match=re.escape(message)):
        load_fix(name, folder)
