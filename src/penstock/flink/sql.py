"""Flink SQL text, from a declaration.  Pure; the statements are pinned by golden files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from penstock import expr
from penstock.durations import millis
from penstock.pipeline import FLINK_TYPES, Aggregate, Hop, Launch, Pipeline, Select, Topic, Transform, Window
from penstock.settings import Environment, FlinkSettings

#: A dead letter's producer takes a record of any size that the topic may take once compressed.
MAX_REQUEST_BYTES = 64 * 1024 * 1024


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(name: str) -> str:
    return expr.FLINK.name(name)


def _with(options: Mapping[str, str]) -> str:
    return ",\n".join(f"  {_literal(key)} = {_literal(value)}" for key, value in options.items())


def _table(name: str, columns: list[str], options: Mapping[str, str]) -> str:
    return f"CREATE TEMPORARY TABLE {_name(name)} (\n  " + ",\n  ".join(columns) + f"\n) WITH (\n{_with(options)}\n)"


def interval(duration: timedelta | str) -> str:
    """Write a duration as a SQL interval: INTERVAL '5' MINUTE."""
    seconds, rest = divmod(millis(duration), 1000)
    if rest:
        return f"INTERVAL '{seconds}.{rest:03}' SECOND({len(str(seconds))}, 3)"
    for unit, size in (("DAY", 86400), ("HOUR", 3600), ("MINUTE", 60), ("SECOND", 1)):
        if seconds % size == 0:
            digits = len(str(seconds // size))
            return f"INTERVAL '{seconds // size}' {unit}" + (f"({digits})" if digits > 2 else "")
    raise AssertionError("every whole number is a multiple of 1")


def offsets(found: Mapping[int, int]) -> str:
    """Write offsets by partition as Kafka's connector reads them."""
    return ";".join(f"partition:{partition},offset:{offset}" for partition, offset in sorted(found.items()))


def kafka_options(env: Environment) -> dict[str, str]:
    """Return how any table reaches the brokers."""
    return {f"properties.{key}": value for key, value in env.kafka.given().items()}


def exactly_once(topic: str, prefix: str, flink: FlinkSettings) -> dict[str, str]:
    """Return a transactional sink's options.  POOLING reuses its ids; the default naming leaks one a checkpoint."""
    return {
        "connector": "kafka",
        "topic": topic,
        "sink.delivery-guarantee": "exactly-once",
        "sink.transactional-id-prefix": prefix,
        "sink.transaction-naming-strategy": "pooling",
        "properties.transaction.timeout.ms": f"{flink.transaction_timeout * 1000:.0f}",
        "properties.compression.type": "lz4",
        "properties.max.request.size": str(MAX_REQUEST_BYTES),
    }


def _too_early(topic: Topic) -> str:
    """An event dated further ahead of its record's own timestamp than the topic allows: a function of the log alone."""
    return f"`_et` > `_timestamp` + {interval(topic.too_early)}"


def source_table(topic: Topic, options: Mapping[str, str], *, watermark: bool = True) -> str:
    """Return the source's DDL: fields, the record's origin, error and bytes, event time and watermark.

    Without a watermark (a bounded source) nothing is late, and there is nothing to gate.
    """
    columns = [f"{_name(item.name)} {FLINK_TYPES[item.type]}" for item in topic.fields]
    columns += [
        "`_error` STRING METADATA FROM 'value.error' VIRTUAL",
        "`_bytes` BYTES METADATA FROM 'value.bytes' VIRTUAL",
        "`_topic` STRING METADATA FROM 'topic' VIRTUAL",
        "`_partition` INT METADATA FROM 'partition' VIRTUAL",
        "`_offset` BIGINT METADATA FROM 'offset' VIRTUAL",
        "`_timestamp` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL",
        "`_et` TIMESTAMP_LTZ(3) METADATA FROM 'value.event_time' VIRTUAL",
    ]
    if watermark:
        behind = f"`_et` - {interval(topic.out_of_orderness)}"
        columns.append(
            "WATERMARK FOR `_et` AS CASE WHEN "
            f"{_too_early(topic)} THEN CAST(NULL AS TIMESTAMP_LTZ(3)) ELSE {behind} END"
        )
    own = {
        "connector": "gated-kafka" if watermark else "kafka",
        "topic": topic.name,
        "format": "json-or-error",
        "json-or-error.required": ";".join(item.name for item in topic.fields if not item.nullable),
        "json-or-error.timestamps": ";".join(item.name for item in topic.fields if item.type == "timestamp_ms"),
        "json-or-error.event-time": topic.event_time,
    }
    return _table("source", columns, own | dict(options))


def out_table(pipeline: Pipeline, options: Mapping[str, str]) -> str:
    """Return the result table's DDL: JSON values, keyed by the group (or by the source's key)."""
    topic, transform = pipeline.source, pipeline.transform
    kinds = out_columns(topic, transform)
    columns = [f"{_name(name)} {FLINK_TYPES[kind]}" for name, kind in kinds.items()]
    key = transform.by if isinstance(transform, Aggregate) else [name for name in [topic.key] if name in kinds]
    keyed = {"key.format": "json", "key.fields": ";".join(key)} if key else {}
    return _table("out", columns, dict(options) | keyed | {"value.format": "json"})


def file_table(pipeline: Pipeline, folder: str) -> str:
    """Return the DDL of the result as files of JSON lines under the URI `folder`: the columns of the result topic."""
    kinds = out_columns(pipeline.source, pipeline.transform)
    columns = [f"{_name(name)} {FLINK_TYPES[kind]}" for name, kind in kinds.items()]
    return _table("out", columns, {"connector": "filesystem", "path": folder, "format": "json"})


def dead_table(folder: str) -> str:
    """Return the DDL of broken records as files of JSON lines under the URI `folder`: origin, reason and bytes."""
    columns = ["`partition` INT", "`offset` BIGINT", "`timestamp` BIGINT", "`reason` STRING", "`bytes` BYTES"]
    return _table("dead", columns, {"connector": "filesystem", "path": folder, "format": "json"})


def out_columns(topic: Topic, transform: Transform) -> dict[str, str]:
    """Return the columns of the result topic with their field types, in order."""
    if isinstance(transform, Aggregate):
        return (
            {"window_start": "timestamp_ms", "window_end": "timestamp_ms"}
            | {key: topic.field(key).type for key in transform.by}
            | expr.measure_types(transform.measures, topic.fields)
            | {"_rows": "long"}
        )
    names = transform.columns or [item.name for item in topic.fields]
    return {name: topic.field(name).type for name in names} | {"_partition": "long", "_offset": "long"}


def rejected_table(name: str, options: Mapping[str, str]) -> str:
    """Return the DDL of the late or dead-letter table: the record's raw bytes, and where it came from in headers."""
    columns = ["`value` BYTES", "`headers` MAP<STRING, BYTES> METADATA"]
    return _table(name, columns, dict(options) | {"value.format": "raw"})


def _last_window(topic: Topic, window: Window) -> str:
    """The start (epoch ms) of the last window that holds the row; modulo twice, for times before the epoch."""
    slide, time = millis(window.slide), _name(topic.event_time)
    return f"{time} - MOD(MOD({time}, {slide}) + {slide}, {slide})"


def _first_window_end(topic: Topic, window: Window) -> str:
    """The end (epoch ms) of the earliest window that would hold the row."""
    return f"({_last_window(topic, window)} + {millis(window.slide)})"


def _late(topic: Topic, transform: Transform, launch: Launch | None) -> str:
    """A row is late when it is dated too early, or its first window has fired; NULL watermark means not late.

    A job that began beside a replay has no windows before its boundary: a row of such a window is late when it came
    after the replay's cut, and its first window is the first of this job's that holds it.
    """
    if isinstance(transform, Select):
        return f"({_too_early(topic)})"
    first_end, past = _first_window_end(topic, transform.window), ""
    if launch is not None and launch.boundary is not None:
        earliest = launch.boundary + millis(transform.window.size)
        past = f" OR ({first_end} < {earliest} AND `_offset` >= {_cut(launch)})"
        first_end = f"GREATEST({first_end}, {earliest})"
    fired = f"CURRENT_WATERMARK(`_et`) >= TO_TIMESTAMP_LTZ({first_end} - 1, 3)"
    # A row ahead of the watermark has no fired window: most rows are spared the window's arithmetic.
    fired = f"`_et` <= CURRENT_WATERMARK(`_et`) AND {fired}"
    if past:
        fired = f"{_ours(topic, transform, launch)} AND {fired}"
    return f"({_too_early(topic)}{past} OR ({fired}) IS TRUE)"


def _cut(launch: Launch) -> str:
    """The offset at which the replay was cut; a partition that came later has none of its records before it."""
    cases = " ".join(f"WHEN {partition} THEN {offset}" for partition, offset in launch.cut)
    return f"CASE `_partition` {cases} ELSE 0 END" if cases else "0"


def _ours(topic: Topic, transform: Aggregate, launch: Launch | None) -> str:
    """A row that some window of this job holds: all but those of windows before its boundary alone."""
    assert launch is not None
    return f"{_last_window(topic, transform.window)} >= {launch.boundary}"


def _condition(topic: Topic, where: str | None) -> str:
    if where is None:
        return ""
    return f" AND ({expr.render(where, [item.name for item in topic.fields], expr.FLINK)})"


def on_time(topic: Topic, transform: Transform, launch: Launch | None = None) -> str:
    """Return the condition of the live job's main branch: what is not late is counted, but for the replay's part."""
    condition = f"NOT {_late(topic, transform, launch)}"
    if isinstance(transform, Aggregate) and launch is not None and launch.boundary is not None:
        return f"{_ours(topic, transform, launch)} AND {condition}"
    return condition


def in_range(topic: Topic, start: int, end: int) -> str:
    """Return the condition of a replay's main branch: dated in `[start, end)` (epoch ms), late or not.

    What is dated too early is so by the log alone, whoever reads it and when: it is not counted here either.
    """
    time = _name(topic.event_time)
    return f"{time} >= {start} AND {time} < {end} AND NOT ({_too_early(topic)})"


def starting_in(start: int, end: int) -> str:
    """Return the condition for windows that start in `[start, end)` (epoch ms)."""
    return f"`window_start` >= {_timestamp(start)} AND `window_start` < {_timestamp(end)}"


def _timestamp(moment: int) -> str:
    found = datetime(1970, 1, 1) + timedelta(milliseconds=moment)
    return f"TIMESTAMP '{found.isoformat(sep=' ', timespec='milliseconds')}'"


def since_boundary(transform: Aggregate, launch: Launch | None) -> str:
    """Return the condition for results of a job that began beside a replay: sliding windows before it are the replay's.

    It hangs on a count (which is never below 1): a condition on the window alone would be pushed below the aggregation,
    which then could no longer share what overlapping windows have in common.
    """
    if launch is None or launch.boundary is None or not isinstance(transform.window, Hop):
        return ""
    return f"EXTRACT(EPOCH FROM `window_start`) * 1000 + LEAST(COUNT(*), 0) >= {launch.boundary}"


def aggregate_insert(topic: Topic, transform: Aggregate, rows: str, windows: str = "", results: str = "") -> str:
    """Return the main branch of a windowed pipeline: one row a (window, keys), with `_rows`, the events in it.

    `rows`, `windows` and `results` are the conditions on which rows and windows are counted, and results are written
    (all where empty).
    """
    names = [item.name for item in topic.fields]
    kinds = expr.measure_types(transform.measures, topic.fields)
    window = transform.window
    size = interval(window.size)
    if isinstance(window, Hop):
        function = f"HOP(TABLE on_time, DESCRIPTOR(`_et`), {interval(window.slide)}, {size})"
    else:
        function = f"TUMBLE(TABLE on_time, DESCRIPTOR(`_et`), {size})"
    keys = [_name(key) for key in transform.by]
    selected = [
        "EXTRACT(EPOCH FROM `window_start`) * 1000 AS `window_start`",
        "EXTRACT(EPOCH FROM `window_end`) * 1000 AS `window_end`",
        *keys,
        *(
            f"CAST({expr.render(text, names, expr.FLINK)} AS {FLINK_TYPES[kinds[name]]}) AS {_name(name)}"
            for name, text in transform.measures.items()
        ),
        "COUNT(*) AS `_rows`",
    ]
    counted = f"SELECT * FROM `source` WHERE `_error` IS NULL AND {rows}{_condition(topic, transform.where)}"
    grouped = ", ".join(["`window_start`", "`window_end`", *keys])
    where = f"\nWHERE {windows}" if windows else ""
    having = f"\nHAVING {results}" if results else ""
    return (
        f"INSERT INTO `out`\nWITH on_time AS (\n  {counted}\n)\nSELECT\n  "
        + ",\n  ".join(selected)
        + f"\nFROM TABLE({function}){where}\nGROUP BY {grouped}{having}"
    )


def select_insert(topic: Topic, transform: Select, rows: str) -> str:
    """Return the main branch of a pass-through pipeline: each row, with the partition and offset it came from.

    `rows` is the condition on which rows are passed.
    """
    names = transform.columns or [item.name for item in topic.fields]
    columns = [*(_name(name) for name in names), "CAST(`_partition` AS BIGINT)", "`_offset`"]
    return (
        f"INSERT INTO `out`\nSELECT {', '.join(columns)}\nFROM `source`\n"
        f"WHERE `_error` IS NULL AND {rows}{_condition(topic, transform.where)}"
    )


def _epoch_ms(column: str) -> str:
    return f"EXTRACT(EPOCH FROM {column}) * 1000 + EXTRACT(MILLISECOND FROM {column})"


def _headers(reason: str, **more: str) -> str:
    parts = {
        "topic": "`_topic`",
        "partition": "CAST(`_partition` AS STRING)",
        "offset": "CAST(`_offset` AS STRING)",
        "timestamp": f"CAST({_epoch_ms('`_timestamp`')} AS STRING)",
        "reason": reason,
        **more,
    }
    return "MAP[" + ", ".join(f"'{key}', CAST({value} AS BYTES)" for key, value in parts.items()) + "]"


def dead_insert() -> str:
    """Return a bounded job's dead-letter branch."""
    return (
        f"INSERT INTO `dead`\nSELECT `_partition`, `_offset`, {_epoch_ms('`_timestamp`')}, `_error`, `_bytes`\n"
        "FROM `source`\nWHERE `_error` IS NOT NULL"
    )


def late_insert(topic: Topic, transform: Transform, launch: Launch | None = None) -> str:
    """Return the late branch: whole records whose first window has fired, or that are dated too early."""
    reason = f"CASE WHEN {_too_early(topic)} THEN 'too early' ELSE 'late' END"
    headers = _headers(reason, event_time=f"CAST({_name(topic.event_time)} AS STRING)")
    return (
        f"INSERT INTO `late`\nSELECT `_bytes`, {headers}\nFROM `source`\n"
        f"WHERE `_error` IS NULL AND {_late(topic, transform, launch)}{_condition(topic, transform.where)}"
    )


def dlq_insert() -> str:
    """Return the dead-letter branch: every broken record, as it was."""
    return f"INSERT INTO `dlq`\nSELECT `_bytes`, {_headers('`_error`')}\nFROM `source`\nWHERE `_error` IS NOT NULL"
