"""Compare tables row by row, and name what differs.  The tables are those of `penstock.reconcile`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb

from penstock import expr
from penstock.durations import millis
from penstock.flink.sql import out_columns
from penstock.pipeline import DUCKDB_TYPES, Aggregate, Pipeline

#: Types of fields that can be summed.
NUMBERS = ("long", "double")
#: How far two sums of doubles may be apart, as a share: their order differs.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it must be, in words.  `time` (epoch ms) tells its segment, None where it has none."""

    words: str
    time: int | None = None

    def __str__(self) -> str:
        return self.words


def identity(pipeline: Pipeline) -> str:
    """The columns that no two rows of `.out` share."""
    if isinstance(pipeline.transform, Aggregate):
        return ", ".join(["window_start", *(expr.DUCKDB.name(key) for key in pipeline.transform.by)])
    return "_partition, _offset"


def duplicates(
    connection: duckdb.DuckDBPyConnection, table: str, identity: str, where: str, *, time: str = "NULL"
) -> list[Difference]:
    """Name what is there more than once; `time` is the column that tells its segment."""
    query = f"SELECT {identity}, count(*), min({time}) FROM {table} GROUP BY {identity} HAVING count(*) > 1"
    names = [name.strip().strip('"') for name in identity.split(",")]
    return [
        Difference(f"{_words(names, values)}: {count} times {where}", at)
        for *values, count, at in connection.execute(query).fetchall()
    ]


def wrongly_rejected(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline) -> list[Difference]:
    """Name what the late and dead-letter topics say and the log denies."""
    topic = pipeline.source
    absent = connection.execute(
        'SELECT DISTINCT partition, "offset", branch FROM rejected '
        'ANTI JOIN log USING (partition, "offset") ORDER BY ALL'
    ).fetchall()
    ahead = f"{expr.DUCKDB.name(topic.event_time)} > _timestamp + {millis(topic.too_early)}"
    wrong = connection.execute(
        f"SELECT _partition, _offset, _early FROM parsed WHERE _kept AND ({ahead}) <> _early ORDER BY ALL"
    ).fetchall()
    lines = [
        *(f"partition={p}, offset={o}: in the {branch} topic, but not in the log" for p, o, branch in absent),
        *(
            f"partition={p}, offset={o}: {'' if early else 'not '}sent as too early, against its dates"
            for p, o, early in wrong
        ),
    ]
    return [Difference(line) for line in lines]


def _words(names: list[str], values: Any) -> str:
    return ", ".join(
        f"{name}={utc(value) if name in ('window_start', '__time') else value}"
        for name, value in zip(names, values, strict=True)
    )


def utc(moment_ms: Any) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=int(moment_ms))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def served_columns(pipeline: Pipeline) -> dict[str, str]:
    """Return the columns of `expected` and `served` with their DuckDB types."""
    topic, transform, sink = pipeline.source, pipeline.transform, pipeline.sink
    if isinstance(transform, Aggregate):
        kinds = out_columns(topic, transform)
        return {name: DUCKDB_TYPES[kind] for name, kind in kinds.items()}
    if sink.measures:
        kinds = {name: topic.field(name).type for name in sink.dimensions} | expr.measure_types(
            sink.measures, topic.fields
        )
    else:
        kinds = {name: kind for name, kind in out_columns(topic, transform).items() if name != topic.event_time}
    return {"__time": "BIGINT"} | {name: DUCKDB_TYPES[kind] for name, kind in kinds.items()} | {"_rows": "BIGINT"}


def measure_columns(pipeline: Pipeline) -> list[str]:
    """Return the served columns that hold figures to be summed: numbers that are neither dimension nor time."""
    topic, transform, sink = pipeline.source, pipeline.transform, pipeline.sink
    if isinstance(transform, Aggregate):
        kinds = expr.measure_types(transform.measures, topic.fields)
    elif sink.measures:
        # A minimum or maximum of rows that are rolled up in part is no sum of those that are in full.
        simple = {name: expr.simple_aggregate(text) for name, text in sink.measures.items()}
        added = {name: sink.measures[name] for name, found in simple.items() if found and found[0] == "SUM"}
        kinds = expr.measure_types(added, topic.fields)
    else:
        kinds = {item.name: item.type for item in topic.fields if item.name not in sink.dimensions}
    return [name for name in served_columns(pipeline) if kinds.get(name) in NUMBERS]


def time_column(pipeline: Pipeline) -> str:
    """The column of `expected` and `served` that tells a row's segment."""
    return "window_start" if isinstance(pipeline.transform, Aggregate) else "__time"


def key_columns(pipeline: Pipeline) -> list[str]:
    if isinstance(pipeline.transform, Aggregate):
        return ["window_start", *pipeline.transform.by]
    if pipeline.sink.measures:
        return ["__time", *pipeline.sink.dimensions]
    return ["_partition", "_offset"]


def differences(
    connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, table: str, place: str, *, expected: str = "expected"
) -> list[Difference]:
    """Compare a table with what is expected, row by row and column by column; name every row that differs."""
    columns, keys = served_columns(pipeline), key_columns(pipeline)
    quoted = {name: expr.DUCKDB.name(name) for name in columns}
    values = [name for name in columns if name not in keys]
    transform = pipeline.transform
    measures = transform.measures if isinstance(transform, Aggregate) else pipeline.sink.measures
    # The order of a sum is nobody's; the least, the greatest and what is passed through are what they are.
    summed = {
        name for name, text in measures.items() if (expr.simple_aggregate(text) or ("",))[0] not in ("MIN", "MAX")
    }

    def differs(name: str) -> str:
        left, right = f"e.{quoted[name]}", f"f.{quoted[name]}"
        if columns[name] != "DOUBLE" or name not in summed:
            return f"{left} IS DISTINCT FROM {right}"
        near = f"abs({left} - {right}) <= {TOLERANCE} * greatest(abs({left}), abs({right}), 1)"
        return f"NOT COALESCE({near}, {left} IS NULL AND {right} IS NULL)"

    join = " AND ".join(f"e.{quoted[key]} IS NOT DISTINCT FROM f.{quoted[key]}" for key in keys)
    selected = [f"COALESCE(e.{quoted[key]}, f.{quoted[key]})" for key in keys]
    time = quoted[time_column(pipeline)]
    selected += [f"COALESCE(e.{time}, f.{time})"]
    selected += [f"e.{quoted[name]}" for name in values] + [f"f.{quoted[name]}" for name in values]
    found = connection.execute(
        f"SELECT e._there, f._there, {', '.join(selected)} FROM (SELECT *, TRUE AS _there FROM {expected}) e "
        f"FULL JOIN (SELECT *, TRUE AS _there FROM {table}) f ON {join} "
        f"WHERE e._there IS NULL OR f._there IS NULL OR {' OR '.join(map(differs, values))} "
        f"ORDER BY {', '.join(selected[: len(keys)])}"
    ).fetchall()
    lines = []
    for wanted, actual, *rest in found:
        where, at, rest = _words(keys, rest[: len(keys)]), rest[len(keys)], rest[len(keys) + 1 :]
        left = dict(zip(values, rest[: len(values)], strict=True))
        right = dict(zip(values, rest[len(values) :], strict=True))
        if not actual:
            line = f"{where}: missing in {place}; the log gives {left}"
        elif not wanted:
            line = f"{where}: in {place} as {right}, but not in the log"
        else:
            wrong = [f"{name} {right[name]} instead of {left[name]}" for name in values if left[name] != right[name]]
            line = f"{where}: {place} has {', '.join(wrong)}"
        lines.append(Difference(line, at))
    return lines
