"""Generations: what a pipeline's registry record says of its running job, joined to the declaration.  Pure.

A job whose logic has changed can't take over its predecessor's state.  It begins beside it, in topics of its own, at
the start of a segment, while a replay computes what lies before: the next generation (`penstock.replay.launch`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from penstock.durations import millis
from penstock.pipeline import (
    Aggregate,
    Datasource,
    Field,
    Hop,
    Launch,
    Pipeline,
    Select,
    Topic,
    Transform,
    Tumble,
)
from penstock.services.registry import Record


def deployed(pipeline: Pipeline, record: Record | None) -> Pipeline:
    """Return the declaration as it is deployed: of the generation that the record says runs."""
    launch = launch_from_json(record.launch) if record is not None else None
    return pipeline if pipeline.launch == launch else replace(pipeline, launch=launch)


def stream(name: str, record: Record | None) -> str:
    """Return what a recorded pipeline's job and topics are called, whether it is declared or not."""
    return called(name, record.launch.get("generation", 0) if record is not None else 0)


def called(name: str, generation: int) -> str:
    """Return what the job and the topics of a pipeline's generation are called."""
    return f"{name}.{generation}" if generation else name


def streams(name: str, newest: int) -> list[str]:
    """Return what those of all generations are called, the oldest first."""
    return [called(name, number) for number in range(newest + 1)]


def running(record: Record) -> Pipeline | None:
    """Return the pipeline that the record's job was started from, None where a record of old does not tell."""
    return deployed(from_json(record.declared), record) if record.declared else None


def launch_to_json(launch: Launch | None) -> dict[str, Any]:
    return asdict(launch) if launch else {}


def launch_from_json(table: Mapping[str, Any]) -> Launch | None:
    """Read a launch back; None for an empty table."""
    if not table:
        return None
    offsets = {name: tuple((int(p), int(o)) for p, o in table[name]) for name in ("low", "cut")}
    return Launch(table["generation"], table["since"], table["boundary"], **offsets)


def to_json(pipeline: Pipeline) -> dict[str, Any]:
    """Return a declaration as JSON data; `from_json` reads it back, equal.  Its launch is not part of it."""
    table = asdict(replace(pipeline, launch=None), dict_factory=_plain)
    # As pairs: the registry sorts the names of a map, and their order is part of the job.
    for part in (table["transform"], table["sink"]):
        if "measures" in part:
            part["measures"] = list(part["measures"].items())
    window = pipeline.transform.window if isinstance(pipeline.transform, Aggregate) else None
    table["transform"]["kind"] = type(pipeline.transform).__name__
    if window is not None:
        table["transform"]["window"]["kind"] = type(window).__name__
    del table["launch"]
    table["repair"] = str(pipeline.repair)
    return table


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: f"{millis(value)} ms" if isinstance(value, timedelta) else value for name, value in items}


def from_json(table: Mapping[str, Any]) -> Pipeline:
    """Read a declaration back."""
    source = dict(table["source"])
    topic = Topic(**{**source, "fields": [Field(**item) for item in source["fields"]]})
    rest = {name: value for name, value in table.items() if name not in ("source", "transform", "sink")}
    sink = Datasource(**{**table["sink"], "measures": dict(table["sink"]["measures"])})
    return Pipeline(**rest, source=topic, transform=_transform(table["transform"]), sink=sink)


def _transform(table: Mapping[str, Any]) -> Transform:
    values = {name: value for name, value in table.items() if name != "kind"}
    if table["kind"] == "Select":
        return Select(**values)
    window = {name: value for name, value in values["window"].items() if name != "kind"}
    kind = Hop if values["window"]["kind"] == "Hop" else Tumble
    return Aggregate(**{**values, "window": kind(**window), "measures": dict(values["measures"])})
