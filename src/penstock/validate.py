"""All mistakes of a pipeline at once: where, the value, the rule and a good example."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from penstock import expr
from penstock.durations import EXAMPLES, format_duration, millis
from penstock.pipeline import (
    FLINK_TYPES,
    SEGMENTS,
    TOPIC_DURATIONS,
    Aggregate,
    Datasource,
    Hop,
    Pipeline,
    Select,
    Topic,
    Tumble,
)

_PIPELINE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_TOPIC_NAME = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")
_COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
RESERVED = frozenset({"window_start", "window_end", "__time"})


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
    """Return every mistake of the declaration, in reading order; an empty list for a good one."""
    name = pipeline.name
    found: list[Problem] = []
    if not _matches(_PIPELINE_NAME, name):
        rule = "a pipeline's name is lower-case letters, digits and _, starting with a letter, 63 at most"
        found.append(Problem("pipeline.name", name, rule, '"airport_delays"'))
    if not isinstance(pipeline.source, Topic):
        return [*found, Problem(f"{name}.source", pipeline.source, "the source is a Topic", "source=departures")]
    found += _topic(f"{name}.source", pipeline.source)
    if pipeline.parallelism is not None and not (
        isinstance(pipeline.parallelism, int) and 1 <= pipeline.parallelism <= pipeline.source.partitions
    ):
        rule = f"parallelism is a whole number from 1 to the source's partitions ({pipeline.source.partitions})"
        found.append(Problem(f"{name}.parallelism", pipeline.parallelism, rule, "parallelism=2"))
    if found:  # expressions can only be bound to sound fields
        return found
    match pipeline.transform:
        case Aggregate():
            found += _aggregate(f"{name}.transform", pipeline.transform, pipeline.source)
        case Select():
            found += _select(f"{name}.transform", pipeline.transform, pipeline.source)
        case other:
            rule = "a transform is Select(...) or Aggregate(...)"
            return [*found, Problem(f"{name}.transform", other, rule, 'Select(columns=["origin"])')]
    if not isinstance(pipeline.sink, Datasource):
        return [
            *found,
            Problem(f"{name}.sink", pipeline.sink, "the sink is a Datasource", 'Datasource(dimensions=["x"])'),
        ]
    return found + list(_datasource(f"{name}.sink", pipeline))


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _duration(where: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, timedelta):
        yield Problem(where, value, "a duration is a whole number and one of ms, s, min, h, d", EXAMPLES)


def _topic(where: str, topic: Topic) -> Iterator[Problem]:
    if not _matches(_TOPIC_NAME, topic.name) or len(topic.name) > 200:
        rule = "a topic's name is domain.entity.version, in lower case"
        yield Problem(f"{where}.name", topic.name, rule, '"flights.departed.v1"')
    names = [item.name for item in topic.fields]
    for item in topic.fields:
        place = f"{where}.fields.{item.name}"
        if not _matches(_COLUMN_NAME, item.name) or item.name in RESERVED:
            rule = "a field's name is letters, digits and _, starting with a letter, and not window_start or window_end"
            yield Problem(place, item.name, rule, 'Field("origin", "string")')
        if item.type not in FLINK_TYPES:
            rule = f"a field's type is one of {', '.join(FLINK_TYPES)}"
            yield Problem(f"{place}.type", item.type, rule, f'Field("{item.name}", "long")')
        if names.count(item.name) > 1:
            yield Problem(place, item.name, "a field is declared once", "remove the second one")
    times = [item.name for item in topic.fields if item.type == "timestamp_ms" and not item.nullable]
    if topic.event_time not in times:
        there = ", ".join(times) or "none"
        rule = f"the event time is a timestamp_ms field that is not nullable, of which there are: {there}"
        yield Problem(f"{where}.event_time", topic.event_time, rule, 'Field("departed_at", "timestamp_ms")')
    if topic.key is not None and topic.key not in names:
        yield Problem(
            f"{where}.key", topic.key, f"the key is one of the fields {', '.join(names)}", f'key="{names[0]}"'
        )
    for name in TOPIC_DURATIONS:
        yield from _duration(f"{where}.{name}", getattr(topic, name))
    if not isinstance(topic.partitions, int) or not 1 <= topic.partitions <= 10_000:
        yield Problem(f"{where}.partitions", topic.partitions, "partitions are a whole number from 1", "partitions=4")


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
    if not _matches(_COLUMN_NAME, name) or name in RESERVED or name in taken:
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


def _window(where: str, window: Any) -> Iterator[Problem]:
    if not isinstance(window, (Tumble, Hop)):
        yield Problem(where, window, "a window is Tumble or Hop", 'Tumble("1 h")')
        return
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
        if not _matches(_COLUMN_NAME, name) or name in sink.dimensions:
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
