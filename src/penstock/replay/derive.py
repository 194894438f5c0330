"""What a replay runs, derived from the declaration: a bounded Flink job, and the Druid task that publishes its files.

The job's SQL differs from the live job's in three ways: it reads between two sets of offsets, it has no watermark, so
that no row is late, and it counts only what lies in the range.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.druid import data_schema
from penstock.flink import sql
from penstock.pipeline import Aggregate, Pipeline
from penstock.replay.scope import Scope, utc
from penstock.settings import Environment
from penstock.topics import consumer_group

Offsets = Mapping[int, int]

#: The function of flink-ext that lets so many rows a second pass (in each subtask).
THROTTLE = "io.penstock.flink.throttle.Throttle"


@dataclass(frozen=True)
class BatchSpec:
    """All that the submission of a bounded job needs.  It writes files of JSON lines under the URI `folder`.

    `low`, `high` and `scope` are what it was derived from.  `quotas` limit its consumers: client id to bytes a second
    from each broker, None for no limit.
    """

    job_id: str
    name: str
    pipeline: str
    folder: str
    tables: tuple[str, ...]
    statement: str
    low: Offsets
    high: Offsets
    scope: Scope
    config: Mapping[str, str] = field(default_factory=dict)
    quotas: Mapping[str, float | None] = field(default_factory=dict)


def replay_folder(env: Environment, replay: str) -> str:
    """Return the URI under which a replay keeps its files; Flink and Druid's indexers must both see it."""
    return f"{env.flink.state}/replays/{env.name}/{replay}"


def batch_job_id(env: str, replay: str, attempt: int) -> str:
    """Return the id of a replay's job: the same attempt has the same id, so Flink refuses to run it twice."""
    return hashlib.sha256("\n".join(["replay", env, replay, str(attempt)]).encode()).hexdigest()[:32]


def batch_spec(  # noqa: PLR0913  (what it computes, from which records, how)
    pipeline: Pipeline,
    env: Environment,
    scope: Scope,
    *,
    replay: str,
    attempt: int,
    low: Offsets,
    cut: Offsets,
    parallelism: int,
    rate: float | None = None,
    dead: bool = False,
) -> BatchSpec:
    """Derive the job that computes `scope` from the records with low <= offset < cut.

    `rate` is the most rows a second that it reads; None is as fast as it can.  With `dead` it writes the records that
    it can't read, too, into a folder of their own beside the results.
    """
    identity = batch_job_id(env.name, replay, attempt)
    name = f"penstock.replay.{pipeline.name}.{replay}"
    folder = f"{replay_folder(env, replay)}/{attempt}"
    statement = _statement(pipeline, scope, None if rate is None else rate / parallelism)
    tables = (_source(pipeline, env, low, cut), sql.file_table(pipeline, folder), *_functions(rate))
    if dead:
        tables = (*tables, sql.dead_table(f"{folder}-dead"))
        statement = f"EXECUTE STATEMENT SET\nBEGIN\n{statement};\n{sql.dead_insert()};\nEND"
    return BatchSpec(
        job_id=identity,
        name=name,
        pipeline=pipeline.name,
        folder=folder,
        tables=tables,
        statement=statement,
        low=dict(low),
        high=dict(cut),
        scope=scope,
        config=_config(name, identity, parallelism),
        quotas=_quotas(pipeline, env, parallelism),
    )


def client_id(env: Environment, pipeline: Pipeline) -> str:
    """Return what the client ids of a replay's consumers begin with: the same for all replays of a pipeline.

    Flink's connector adds a dash and the number of the subtask.
    """
    return f"{consumer_group(env.name, pipeline.name)}-replay"


def verifier_id(env: Environment, pipeline: Pipeline) -> str:
    """Return the client id under which the log is read once more, to verify."""
    return f"{client_id(env, pipeline)}-verify"


def _quotas(pipeline: Pipeline, env: Environment, parallelism: int) -> dict[str, float | None]:
    """Share the limit out among the job's consumers, each client id having a quota of its own; verifying comes after.

    Every number that a subtask could have is named, so that none keeps what was set before.
    """
    limit, prefix = env.kafka.replay_bytes_per_second, client_id(env, pipeline)
    share = None if limit is None else limit / parallelism
    consumers = {f"{prefix}-{number}": share for number in range(pipeline.source.partitions)}
    return {**consumers, verifier_id(env, pipeline): limit}


def _source(pipeline: Pipeline, env: Environment, low: Offsets, cut: Offsets) -> str:
    options = {
        # Shown by Kafka's tools; nothing is committed, and the live job's group is left alone.
        "properties.group.id": f"{consumer_group(env.name, pipeline.stream)}-replay",
        # Fixed, for the brokers' quotas go by it: none is left behind under a name that does not come again.
        "properties.client.id.prefix": client_id(env, pipeline),
        "properties.isolation.level": "read_committed",
        "scan.startup.mode": "specific-offsets",
        "scan.startup.specific-offsets": sql.offsets(
            {partition: min(low[partition], cut[partition]) for partition in cut}
        ),
        "scan.bounded.mode": "specific-offsets",
        "scan.bounded.specific-offsets": sql.offsets(cut),
    }
    return sql.source_table(pipeline.source, sql.kafka_options(env) | options, watermark=False)


def _functions(rate: float | None) -> tuple[str, ...]:
    return () if rate is None else (f"CREATE TEMPORARY FUNCTION `throttle` AS '{THROTTLE}'",)


def _statement(pipeline: Pipeline, scope: Scope, rate: float | None) -> str:
    topic, transform = pipeline.source, pipeline.transform
    rows = sql.in_range(topic, scope.start, scope.events_end)
    if rate is not None:
        # Evaluated first, for every row that is read, in range or not.
        rows = f"`throttle`(CAST({rate:.3f} AS DOUBLE), `_offset`) AND {rows}"
    if isinstance(transform, Aggregate):
        return sql.aggregate_insert(topic, transform, rows, sql.starting_in(scope.start, scope.end))
    return sql.select_insert(topic, transform, rows)


def _config(name: str, identity: str, parallelism: int) -> dict[str, str]:
    return {
        "pipeline.name": name,
        "$internal.pipeline.job-id": identity,
        "execution.runtime-mode": "BATCH",
        "parallelism.default": str(parallelism),
        # Without these the batch scheduler would take as many slots as it finds.
        "execution.batch.adaptive.auto-parallelism.max-parallelism": str(parallelism),
        "execution.batch.adaptive.auto-parallelism.default-source-parallelism": str(parallelism),
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
        # A live job tries for ever; this one has somebody waiting for it, who can try again.
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "20",
        "restart-strategy.fixed-delay.delay": "2 s",
    }


def task_id(env: str, replay: str, attempt: int) -> str:
    """Return the id of the task that publishes: the same attempt has the same id, so Druid refuses a second one."""
    return f"penstock_replay_{env}_{replay}_{attempt}"


def publish_spec(pipeline: Pipeline, scope: Scope, files: Sequence[str], *, identity: str) -> dict[str, Any]:
    """Derive the task that replaces the segments of `scope` by the rows of `files` (paths), all in one transaction.

    `dropExisting` takes away old segments for which there are no rows any more.
    """
    interval = f"{utc(scope.start)}/{utc(scope.end)}"
    schema = data_schema(pipeline)
    # Without a row every old segment still goes.  Druid takes no empty input, and passes over a row outside the range.
    nothing = {"type": "inline", "data": json.dumps({schema["timestampSpec"]["column"]: scope.end})}
    schema["granularitySpec"] = {**schema["granularitySpec"], "intervals": [interval]}
    return {
        "type": "index_parallel",
        "id": identity,
        "spec": {
            "dataSchema": schema,
            "ioConfig": {
                "type": "index_parallel",
                "inputSource": {"type": "local", "files": sorted(files)} if files else nothing,
                "inputFormat": {"type": "json"},
                "appendToExisting": False,
                "dropExisting": True,
            },
            "tuningConfig": {
                "type": "index_parallel",
                # With more than one, Druid 33 takes the wrong lock and replaces nothing (apache/druid#18099).
                "maxNumConcurrentSubTasks": 1,
                # The files are our own: a row that can't be read is a fault to be seen.
                "maxParseExceptions": 0,
                "logParseExceptions": True,
            },
        },
        # The supervisor says so too: live rows outside the range go on being appended meanwhile.
        "context": {"useConcurrentLocks": True},
    }
