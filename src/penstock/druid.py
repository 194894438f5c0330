"""4. Druid: the Kafka supervisor of a pipeline's datasource."""

from __future__ import annotations

from typing import Any

from penstock import expr
from penstock.flink.sql import out_columns
from penstock.pipeline import DRUID_TYPES, Pipeline, Select
from penstock.settings import Environment
from penstock.topics import out_topic
from penstock.validate import GRANULARITIES


def supervisor_spec(pipeline: Pipeline, env: Environment) -> dict[str, Any]:
    """Derive the supervisor: reads `.out` committed, from its start, and never resets its offsets by itself."""
    return {
        "type": "kafka",
        "spec": {
            "dataSchema": data_schema(pipeline),
            "ioConfig": {
                "topic": out_topic(pipeline.stream),
                "inputFormat": {"type": "json"},
                "consumerProperties": {
                    **env.kafka.given(),
                    "isolation.level": "read_committed",
                    **env.druid.consumer,
                },
                "useEarliestOffset": True,
                "taskCount": 1,
                "replicas": max(1, env.druid.replicas),
                "taskDuration": env.druid.task_duration,
                # How soon a supervisor looks at its tasks; the default 30 s is most of a recovery.
                "period": "PT5S",
                "startDelay": "PT1S",
                "completionTimeout": "PT30M",
            },
            "tuningConfig": {
                "type": "kafka",
                # Skipping past a gap in the log would lose rows without a trace.
                "resetOffsetAutomatically": False,
                # The topic is our own: a row that can't be read is a fault to be seen, not to be counted.
                "maxParseExceptions": 0,
                "logParseExceptions": True,
                "intermediatePersistPeriod": "PT1M",
            },
        },
        "context": {"useConcurrentLocks": True},
        "suspended": False,
    }


def data_schema(pipeline: Pipeline) -> dict[str, Any]:
    """Derive columns and granularities; the reindexing of a replay uses the same."""
    transform, sink = pipeline.transform, pipeline.sink
    columns = out_columns(pipeline.source, transform)
    rolled = isinstance(transform, Select) and bool(sink.measures)
    if isinstance(transform, Select):
        time = pipeline.source.event_time
        names = list(sink.dimensions) if rolled else [name for name in columns if name != time]
    else:
        time = "window_start"
        names = [name for name in columns if name != time]
    metrics = _metrics(pipeline) if isinstance(transform, Select) else []
    return {
        "dataSource": pipeline.name,
        "timestampSpec": {"column": time, "format": "millis"},
        "dimensionsSpec": {"dimensions": [{"type": DRUID_TYPES[columns[name]], "name": name} for name in names]},
        "metricsSpec": metrics,
        "granularitySpec": {
            "type": "uniform",
            "segmentGranularity": sink.segment,
            "queryGranularity": GRANULARITIES[sink.granularity][0] if sink.granularity else "none",
            "rollup": rolled,
        },
    }


def merged_columns(pipeline: Pipeline) -> list[str]:
    """Return the SQL columns that merge rolled-up rows of the same dimensions: `_rows`, then every measure."""
    columns = ['SUM("_rows") AS "_rows"']
    for name, text in pipeline.sink.measures.items():
        simple = expr.simple_aggregate(text)
        assert simple is not None, "checked by the declaration"
        columns.append(f'{simple[0]}("{name}") AS "{name}"')
    return columns


def _metrics(pipeline: Pipeline) -> list[dict[str, str]]:
    """`_rows` counts the events behind each stored row, by which the ledger closes whatever the roll-up."""
    metrics = [{"type": "count", "name": "_rows"}]
    for name, text in pipeline.sink.measures.items():
        simple = expr.simple_aggregate(text)
        assert simple is not None
        function, column = simple
        kind = DRUID_TYPES[pipeline.source.field(column).type]
        metrics.append({"type": f"{kind}{function.capitalize()}", "name": name, "fieldName": column})
    return metrics
