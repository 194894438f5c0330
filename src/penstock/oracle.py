"""The oracle: what the figures must be, recomputed from the log by DuckDB.

It reads a table `log` with the columns partition, offset, timestamp and value (the record's bytes), without the records
that were sent to the late or dead-letter topic, and shares no code with Flink: only the declaration.
"""

from __future__ import annotations

from penstock import expr
from penstock.durations import millis
from penstock.pipeline import DUCKDB_TYPES, Aggregate, Pipeline, Topic
from penstock.validate import GRANULARITIES


def _name(name: str) -> str:
    return expr.DUCKDB.name(name)


def events_query(topic: Topic, where: str | None = None, *, log: str = "log") -> str:
    """Return SQL for the parsed rows of `log`: `_partition`, `_offset`, `_timestamp` and the declared fields.

    Rows that don't meet `where` are left out.  Records that can't be parsed must not be in `log`.
    """
    shape = ", ".join(f'"{item.name}": "{DUCKDB_TYPES[item.type]}"' for item in topic.fields)
    fields = ", ".join(f"_row.{_name(item.name)} AS {_name(item.name)}" for item in topic.fields)
    query = (
        f"SELECT _partition, _offset, _timestamp, {fields} FROM (\n"
        '  SELECT partition AS _partition, "offset" AS _offset, "timestamp" AS _timestamp,\n'
        f"    from_json(decode(value), '{{{shape}}}') AS _row\n"
        f"  FROM {log}\n)"
    )
    if where is None:
        return query
    condition = expr.render(where, [item.name for item in topic.fields], expr.DUCKDB)
    return f"SELECT * FROM (\n{query}\n) WHERE {condition}"


def _floor(value: str, step: int) -> str:
    """The greatest multiple of `step` not above `value`, also for times before the epoch."""
    return f"({value} - ((({value}) % {step} + {step}) % {step}))"


def result_query(pipeline: Pipeline, *, events: str = "events") -> str:
    """Return SQL for the rows that Druid must hold, from a table `events` as `events_query` gives it.

    Aggregate: window_start, window_end (epoch ms), keys, measures, _rows.  Select: one row an event, or, rolled up, one
    for each granule and dimensions: __time (epoch ms), dimensions, measures, _rows.
    """
    topic, transform, sink = pipeline.source, pipeline.transform, pipeline.sink
    names = [item.name for item in topic.fields]
    if isinstance(transform, Aggregate):
        kinds = expr.measure_types(transform.measures, topic.fields)
        measures = [
            f"CAST({expr.render(text, names, expr.DUCKDB)} AS {DUCKDB_TYPES[kinds[name]]}) AS {_name(name)}"
            for name, text in transform.measures.items()
        ]
        keys = [_name(key) for key in transform.by]
        size = millis(transform.window.size)
        columns = [
            "_window AS window_start",
            f"_window + {size} AS window_end",
            *keys,
            *measures,
            "count(*) AS _rows",
        ]
        grouped = ", ".join(["_window", *keys])
        return f"SELECT {', '.join(columns)}\nFROM ({windows_query(pipeline, events=events)})\nGROUP BY {grouped}"
    time = _name(topic.event_time)
    if not sink.measures:
        columns = [name for name in (transform.columns or names) if name != topic.event_time]
        listed = "".join(f"{_name(name)}, " for name in columns)
        return f"SELECT {time} AS __time, {listed}_partition, _offset, 1 AS _rows\nFROM {events}"
    assert sink.granularity is not None
    granule = _floor(time, GRANULARITIES[sink.granularity][1])
    dimensions = [_name(name) for name in sink.dimensions]
    measures = [f"{expr.render(text, names, expr.DUCKDB)} AS {_name(name)}" for name, text in sink.measures.items()]
    columns = [f"{granule} AS __time", *dimensions, *measures, "count(*) AS _rows"]
    grouped = ", ".join([granule, *dimensions])
    return f"SELECT {', '.join(columns)}\nFROM {events}\nGROUP BY {grouped}"


def windows_query(pipeline: Pipeline, *, events: str = "events") -> str:
    """Return SQL that gives every event once for each window that holds it, with the window's start as `_window`."""
    transform = pipeline.transform
    assert isinstance(transform, Aggregate)
    time = _name(pipeline.source.event_time)
    size, slide = millis(transform.window.size), millis(transform.window.slide)
    last = _floor(time, slide)
    if size == slide:
        return f"SELECT *, {last} AS _window FROM {events}"
    return f"SELECT *, unnest(range({last} - {size - slide}, {last} + 1, {slide})) AS _window FROM {events}"
