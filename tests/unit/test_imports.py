"""Imports point one way: no module needs one that needs it."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import penstock

SOURCE = Path(penstock.__file__).parent


def imported(path: Path, modules: set[str]) -> set[str]:
    """Return which of `modules` the file imports, at its head or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                found.add(whole if whole in modules else node.module)
        elif isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
    return found & modules


def test_no_import_goes_round() -> None:
    modules = {
        ".".join(["penstock", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__"): path
        for path in SOURCE.rglob("*.py")
    }
    graph = {name: imported(path, set(modules)) - {name} for name, path in modules.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules) > 50
