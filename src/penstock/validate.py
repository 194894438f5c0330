"""All mistakes of a pipeline at once: where, the value, the rule and a good example."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import NoneType
from typing import Any

from penstock import expr, repair_policy
from penstock.durations import EXAMPLES, format_duration, millis
from penstock.pipeline import (
    FLINK_TYPES,
    SEGMENTS,
    TOPIC_DURATIONS,
    Aggregate,
    Datasource,
    Field,
    Hop,
    Pipeline,
    Select,
    Topic,
    Tumble,
    Window,
)

_PIPELINE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TOPIC_NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")
_COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
RESERVED = frozenset({"window_start", "window_end", "__time"})
MOST_PARTITIONS = 10_000
#: Kafka holds a message's size in 32 bits.
MOST_BYTES = 2**31 - 1


@dataclass(frozen=True)
class Problem:
    """One mistake, in the words a user reads."""

    where: str
    value: Any
    rule: str
    example: str

    def __str__(self) -> str:
        return f"{self.where} = {self.value!r}: {self.rule}; for example {self.example}"


def problems(pipeline: Pipeline) -> list[Problem]:
    """Return every mistake of the declaration, in reading order; an empty list for a good one.

    Types come first, since only of sound ones the rest can be asked, and expressions are bound to sound fields only.
    """
    name = pipeline.name
    found: list[Problem] = []
    if not _matches(_PIPELINE_NAME, name):
        rule = "a pipeline's name is lower-case letters, digits and _, starting with a letter, 63 at most"
        found.append(Problem("pipeline.name", name, rule, '"airport_delays"'))
    if isinstance(pipeline.source, Topic):
        found += _topic(f"{name}.source", pipeline.source)
        found += _parallelism(f"{name}.parallelism", pipeline.parallelism, pipeline.source.partitions)
    else:
        found.append(Problem(f"{name}.source", pipeline.source, "the source is a Topic", "source=departures"))
    found += _transform_types(f"{name}.transform", pipeline.transform)
    found += _sink_types(f"{name}.sink", pipeline.sink)
    if not isinstance(pipeline.repair, repair_policy.RepairPolicy):
        rule = "late events are repaired after a quiet time, hourly, nightly or never"
        found.append(Problem(f"{name}.repair", pipeline.repair, rule, repair_policy.EXAMPLES))
    if found:
        return found
    if isinstance(pipeline.transform, Aggregate):
        found += _aggregate(f"{name}.transform", pipeline.transform, pipeline.source)
    else:
        found += _select(f"{name}.transform", pipeline.transform, pipeline.source)
    return found + list(_datasource(f"{name}.sink", pipeline))


def _transform_types(where: str, transform: Any) -> Iterator[Problem]:
    match transform:
        case Aggregate():
            if not isinstance(transform.window, (Tumble, Hop)):
                yield Problem(f"{where}.window", transform.window, "a window is Tumble or Hop", 'Tumble("1 h")')
            yield from _names(f"{where}.by", transform.by, 'by=["origin"]')
            yield from _expressions(f"{where}.measures", transform.measures)
        case Select():
            yield from _names(f"{where}.columns", transform.columns, 'columns=["origin"]')
        case _:
            yield Problem(
                where, transform, "a transform is Select(...) or Aggregate(...)", 'Select(columns=["origin"])'
            )
            return
    if not isinstance(transform.where, (str, NoneType)):
        rule = "a condition is a SQL expression, written as text"
        yield Problem(f"{where}.where", transform.where, rule, '"delay_min > 15"')


def _sink_types(where: str, sink: Any) -> Iterator[Problem]:
    if not isinstance(sink, Datasource):
        yield Problem(where, sink, "the sink is a Datasource", 'Datasource(dimensions=["x"])')
        return
    yield from _names(f"{where}.dimensions", sink.dimensions, 'dimensions=["origin"]')
    yield from _expressions(f"{where}.measures", sink.measures)
    if not isinstance(sink.segment, str):
        yield Problem(f"{where}.segment", sink.segment, f"a segment's span is one of {_list(SEGMENTS)}", '"day"')
    if not isinstance(sink.granularity, (str, NoneType)):
        rule = f"a roll-up's granularity is one of {_list(GRANULARITIES)}"
        yield Problem(f"{where}.granularity", sink.granularity, rule, '"1 min"')


def _names(where: str, value: Any, example: str) -> Iterator[Problem]:
    """Check that it is a list of names, each there once."""
    if not isinstance(value, tuple):
        yield Problem(where, value, "this is a list of names", example)
        return
    seen: set[str] = set()
    for name in value:
        if not isinstance(name, str):
            yield Problem(where, name, "this is a list of names, each written as text", example)
        elif name.lower() in seen:
            yield Problem(where, name, "each name is there once", "remove the second one")
        else:
            seen.add(name.lower())


def _expressions(where: str, value: Any) -> Iterator[Problem]:
    example = '{"delay_min_sum": "SUM(delay_min)"}'
    if not isinstance(value, dict):
        yield Problem(where, value, "measures map a column's name to a SQL expression", example)
        return
    seen: set[str] = set()
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):
            rule = "a measure is a column's name and a SQL expression, both written as text"
            yield Problem(f"{where}.{name}", text, rule, example)
        elif name.lower() in seen:
            rule = "a measure's name is its own; some engines tell no capital letters apart"
            yield Problem(f"{where}.{name}", name, rule, "rename one")
        else:
            seen.add(name.lower())


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _parallelism(where: str, value: Any, partitions: Any) -> Iterator[Problem]:
    most = partitions if _whole(partitions, 1, MOST_PARTITIONS) else MOST_PARTITIONS
    if value is not None and not _whole(value, 1, most):
        rule = f"parallelism is a whole number from 1 to the source's partitions ({partitions})"
        yield Problem(where, value, rule, "parallelism=2")


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _duration(where: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, timedelta):
        yield Problem(where, value, "a duration is a whole number and one of ms, s, min, h, d", EXAMPLES)


def _topic(where: str, topic: Topic) -> Iterator[Problem]:
    if not _matches(_TOPIC_NAME, topic.name) or len(topic.name) > 200:
        rule = "a topic's name is domain.entity.version, in lower case"
        yield Problem(f"{where}.name", topic.name, rule, '"flights.departed.v1"')
    yield from _fields(f"{where}.fields", topic.fields)
    fields = [item for item in topic.fields if isinstance(item, Field)] if isinstance(topic.fields, tuple) else []
    times = [item.name for item in fields if item.type == "timestamp_ms" and not item.nullable]
    if topic.event_time not in times:
        there = ", ".join(map(str, times)) or "none"
        rule = f"the event time is a timestamp_ms field that is not nullable, of which there are: {there}"
        yield Problem(f"{where}.event_time", topic.event_time, rule, 'Field("departed_at", "timestamp_ms")')
    names = [str(item.name) for item in fields]
    if topic.key is not None and topic.key not in names:
        rule = f"the key is one of the fields {_list(names) or '(there are none)'}"
        yield Problem(f"{where}.key", topic.key, rule, f'key="{(names or ["origin"])[0]}"')
    for name in TOPIC_DURATIONS:
        yield from _duration(f"{where}.{name}", getattr(topic, name))
    if not _whole(topic.partitions, 1, MOST_PARTITIONS):
        rule = f"partitions are a whole number from 1 to {MOST_PARTITIONS:,}"
        yield Problem(f"{where}.partitions", topic.partitions, rule, "partitions=4")
    if not _whole(topic.max_message_bytes, 1, MOST_BYTES):
        rule = f"the largest message is a whole number of bytes from 1 to {MOST_BYTES:,}"
        yield Problem(f"{where}.max_message_bytes", topic.max_message_bytes, rule, "max_message_bytes=1_048_588")


def _fields(where: str, fields: Any) -> Iterator[Problem]:
    example = 'fields=[Field("origin", "string")]'
    if not isinstance(fields, tuple) or not fields:
        yield Problem(where, fields, "a topic's fields are a list of Field, at least one", example)
        return
    seen: set[str] = set()
    for item in fields:
        if not isinstance(item, Field):
            yield Problem(where, item, "a topic's fields are a list of Field", example)
            continue
        place = f"{where}.{item.name}"
        if not _matches(_COLUMN_NAME, item.name) or item.name.lower() in RESERVED:
            rule = "a field's name is letters, digits and _, starting with a letter, and not window_start or window_end"
            yield Problem(place, item.name, rule, 'Field("origin", "string")')
        elif item.name.lower() in seen:
            rule = "a field is declared once; names that differ in capital letters only are one to some engines"
            yield Problem(place, item.name, rule, "remove or rename the second one")
        else:
            seen.add(item.name.lower())
        if not isinstance(item.type, str) or item.type not in FLINK_TYPES:
            rule = f"a field's type is one of {_list(FLINK_TYPES)}"
            yield Problem(f"{place}.type", item.type, rule, f'Field("{item.name}", "long")')


def _condition(where: str, text: str | None, topic: Topic) -> Iterator[Problem]:
    if text is None:
        return
    example = '"delay_min > 15"'
    try:
        kind = expr.type_of(text, topic.fields)
    except expr.ExpressionError as error:
        yield Problem(where, text, str(error), example)
        return
    if kind != "boolean" or expr.is_aggregate(text):
        yield Problem(where, text, f"a condition is true or false for one row; this is a {kind}", example)


def _aggregate(where: str, transform: Aggregate, topic: Topic) -> Iterator[Problem]:
    yield from _window(f"{where}.window", transform.window)
    names = [item.name for item in topic.fields]
    for key in transform.by:
        if key not in names:
            yield Problem(f"{where}.by", key, f"a key is one of the fields {', '.join(names)}", f'by=["{names[0]}"]')
        elif topic.field(key).type in ("double", "timestamp_ms"):
            rule = "a key is a string, boolean or long; doubles and times make a group a row"
            yield Problem(f"{where}.by", key, rule, 'by=["origin"]')
    if not transform.measures:
        yield Problem(
            f"{where}.measures", dict(transform.measures), "there is at least one measure", '{"flights": "COUNT(*)"}'
        )
    for name, text in transform.measures.items():
        yield from _measure(f"{where}.measures.{name}", name, text, topic, taken=transform.by)
    yield from _condition(f"{where}.where", transform.where, topic)


def _measure(where: str, name: str, text: str, topic: Topic, taken: Any) -> Iterator[Problem]:
    example = '{"delay_min_sum": "SUM(delay_min)"}'
    if not _matches(_COLUMN_NAME, name) or name.lower() in (*RESERVED, *map(str.lower, taken)):
        rule = "a measure's name is letters, digits and _, and neither a key nor window_start or window_end"
        yield Problem(where, name, rule, example)
    try:
        kind = expr.type_of(text, topic.fields)
    except expr.ExpressionError as error:
        yield Problem(where, text, str(error), example)
        return
    if not expr.is_aggregate(text) or kind not in ("long", "double", "string"):
        rule = f"a measure is a COUNT, SUM, MIN or MAX that gives a number or a string; this is a {kind}"
        yield Problem(where, text, rule, example)


def _window(where: str, window: Window) -> Iterator[Problem]:
    parts = {"size": window.size} | ({"slide": window.slide} if isinstance(window, Hop) else {})
    for name, value in parts.items():
        yield from _duration(f"{where}.{name}", value)
        if isinstance(value, timedelta) and millis(value) % 1000:
            yield Problem(f"{where}.{name}", format_duration(value), "a window is whole seconds", '"1 s"')
    size, slide = window.size, window.slide
    if isinstance(size, timedelta) and isinstance(slide, timedelta) and size % slide:
        rule = f"a window's size is a multiple of its slide ({format_duration(slide)})"
        yield Problem(f"{where}.size", format_duration(size), rule, 'Hop(size="1 h", slide="5 min")')


def _select(where: str, transform: Select, topic: Topic) -> Iterator[Problem]:
    names = [item.name for item in topic.fields]
    for column in transform.columns:
        if column not in names:
            rule = f"a column is one of the fields {', '.join(names)}"
            yield Problem(f"{where}.columns", column, rule, f'columns=["{names[0]}"]')
    if transform.columns and topic.event_time not in transform.columns:
        rule = f"the columns hold the event time {topic.event_time!r}, which becomes Druid's __time"
        yield Problem(f"{where}.columns", list(transform.columns), rule, f'columns=[..., "{topic.event_time}"]')
    yield from _condition(f"{where}.where", transform.where, topic)


def _datasource(where: str, pipeline: Pipeline) -> Iterator[Problem]:
    sink, transform = pipeline.sink, pipeline.transform
    if sink.segment not in SEGMENTS:
        yield Problem(
            f"{where}.segment", sink.segment, f"a segment's span is one of {', '.join(SEGMENTS)}", 'segment="day"'
        )
    if isinstance(transform, Aggregate):
        if sorted(sink.dimensions) != sorted(transform.by):
            rule = (
                f"the dimensions of an Aggregate are its keys {list(transform.by)}, so that a row is one window and key"
            )
            yield Problem(f"{where}.dimensions", list(sink.dimensions), rule, f"dimensions={list(transform.by)}")
        if sink.measures or sink.granularity:
            rule = "windowed results are stored as they are, one row a window and key; only a Select is rolled up"
            yield Problem(f"{where}.measures", dict(sink.measures), rule, "leave out measures and granularity")
        return
    yield from _rollup(where, pipeline)


def _rollup(where: str, pipeline: Pipeline) -> Iterator[Problem]:
    sink, topic = pipeline.sink, pipeline.source
    if sink.dimensions and not sink.measures:
        rule = "only a roll-up names dimensions; without measures each column that the Select passes on is one"
        yield Problem(f"{where}.dimensions", list(sink.dimensions), rule, "leave out dimensions, or declare measures")
    columns = list(pipeline.transform.columns) or [item.name for item in topic.fields]  # type: ignore[union-attr]
    for name in sink.dimensions:
        if name not in columns:
            yield Problem(
                f"{where}.dimensions",
                name,
                f"a dimension is one of {', '.join(columns)}",
                f'dimensions=["{columns[0]}"]',
            )
    if bool(sink.measures) != bool(sink.granularity):
        rule = "measures and granularity go together: they declare the roll-up"
        yield Problem(f"{where}.granularity", sink.granularity, rule, 'granularity="1 min"')
    if sink.granularity is not None and sink.granularity not in GRANULARITIES:
        rule = f"a roll-up's granularity is one of {', '.join(GRANULARITIES)}"
        yield Problem(f"{where}.granularity", sink.granularity, rule, 'granularity="1 min"')
    elif sink.granularity and sink.segment in SEGMENTS and GRANULARITIES[sink.granularity][1] > SEGMENTS[sink.segment]:
        rule = f"a roll-up's granularity is no longer than a segment ({sink.segment})"
        yield Problem(f"{where}.granularity", sink.granularity, rule, 'granularity="1 min"')
    for name, text in sink.measures.items():
        place, example = f"{where}.measures.{name}", '{"delay_min_sum": "SUM(delay_min)"}'
        simple = expr.simple_aggregate(text)
        if not _matches(_COLUMN_NAME, name) or name.lower() in map(str.lower, sink.dimensions):
            yield Problem(place, name, "a measure's name is letters, digits and _, and not a dimension", example)
        if simple is None or simple[1] not in columns:
            yield Problem(
                place, text, f"a rolled-up measure is SUM, MIN or MAX of one of {', '.join(columns)}", example
            )
        elif topic.field(simple[1]).type not in ("long", "double", "timestamp_ms"):
            yield Problem(place, text, "a rolled-up measure is of a long, a double or a timestamp_ms", example)


#: Roll-up granularities: what a declaration says, what Druid calls it, and its length in milliseconds.
GRANULARITIES: dict[str, tuple[str, int]] = {
    "1 s": ("second", 1_000),
    "1 min": ("minute", 60_000),
    "5 min": ("five_minute", 300_000),
    "1 h": ("hour", 3_600_000),
    "1 d": ("day", 86_400_000),
}
