"""Lines of code: what is there, and what a change touched.  Pure.

A line counts that is neither blank nor a comment nor part of a docstring.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from difflib import SequenceMatcher

COMMENTS = {".py": "#", ".sql": "--"}

#: Texts by the names of their files.
Texts = Mapping[str, str]


def code(name: str, text: str) -> list[str]:
    """Return the lines of code of a file, by the language that its name tells."""
    suffix = name[name.rindex(".") :]
    told = _docstrings(text) if suffix == ".py" else set()
    comment = COMMENTS.get(suffix)
    return [
        line.strip()
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and number not in told and not (comment and line.strip().startswith(comment))
    ]


def _docstrings(text: str) -> set[int]:
    """Return the numbers of the lines of docstrings, and of texts that stand alone."""
    return {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def total(texts: Texts) -> int:
    return sum(len(code(name, text)) for name, text in texts.items())


def changed(before: Texts, after: Texts) -> int:
    """Return how many lines of code differ; a line that took another's place counts once."""
    return sum(_differing(code(name, before[name]), code(name, after[name])) for name in before)


def _differing(old: list[str], new: list[str]) -> int:
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in blocks if tag != "equal")
