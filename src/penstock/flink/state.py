"""What of a compiled plan has state: a changed job can go on from a savepoint only where none of it has changed.

Flink names the state of an operator after the number and type of its plan's node.  Reads JSON, and needs no Flink.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Of an operator that aggregates, what its state is made by.
_SHAPES = ("grouping", "aggCalls", "windowing", "localAggInputRowType")


def differences(old: str, new: str) -> list[str]:
    """Return what keeps a job of the plan `new` from going on with the state of one of `old`, in words.

    Conditions may change: rows that they keep out are in no state.
    """
    before, after = _stateful(json.loads(old)), _stateful(json.loads(new))
    found = []
    for number in sorted({*before, *after}):
        one, other = before.get(number), after.get(number)
        if one is None or other is None or one[0] != other[0]:
            return [f"operator {number} was {_name(one)}, and is {_name(other)}: the job has other parts"]
        found += [
            f"operator {number} ({one[0]}): {part} was {value}, and is {other[1].get(part)}"
            for part, value in one[1].items()
            if other[1].get(part) != value
        ]
    return found


def _name(node: tuple[str, Mapping[str, str]] | None) -> str:
    return "not there" if node is None else node[0]


def _stateful(plan: Mapping[str, Any]) -> dict[int, tuple[str, dict[str, str]]]:
    nodes = {node["id"]: node for node in plan["nodes"]}
    feeds: dict[int, list[int]] = {}
    for edge in plan["edges"]:
        feeds.setdefault(edge["source"], []).append(edge["target"])
    aggregating = {number for number, node in nodes.items() if "aggregate" in node["type"]}
    found = {}
    for number, node in nodes.items():
        parts: dict[str, str] = {}
        if number in aggregating:
            parts = {name: _shape(node[name]) for name in _SHAPES if name in node}
        elif aggregating & set(feeds.get(number, [])) and node["type"].startswith("stream-exec-calc"):
            # What is put into the state, by name; a condition stands behind it.
            parts = {"input": node["description"].partition(", where=[")[0]}
        found[number] = (_kind(node["type"]), parts)
    return found


def _shape(value: Any) -> str:
    """Write a part of a node; two are equal where their texts are.  The type of a row is its columns."""
    if isinstance(value, dict) and value.keys() == {"fields", "type"}:
        return ", ".join(_column(item) for item in value["fields"])
    return json.dumps(value, sort_keys=True)


def _column(item: Mapping[str, Any]) -> str:
    name, kind = item["name"], item["fieldType"]
    return f"{name} {kind if isinstance(kind, str) else json.dumps(kind, sort_keys=True)}"


def _kind(text: str) -> str:
    return text.removeprefix("stream-exec-").rpartition("_")[0].replace("-", " ")
