"""The Flink job of a pipeline, as plain data: tables, one statement set, configuration, identity.

Every row of the source lands in exactly one branch, decided by the same three conditions in this order:
broken -> dead-letter topic; dated too early, or behind its first window -> late topic; else -> the result.
All branches share one scan, chained, so a row meets the same watermark in each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from penstock.durations import millis
from penstock.flink import sql
from penstock.pipeline import Aggregate, Pipeline
from penstock.settings import Environment, FlinkSettings, KafkaSettings
from penstock.topics import consumer_group, dlq_topic, late_topic, out_topic

#: Part of every version: raise it when the meaning of persisted state changes without the SQL changing.
CONTRACT = 1

#: Where jobs begin that have no state yet.
EARLIEST = "earliest-offset"
GROUP = "group-offsets"
SPECIFIC = "specific-offsets"


@dataclass(frozen=True)
class JobSpec:
    """All that a submission needs.  `tables` are DDL, `statements` one `STATEMENT SET`, `config` Flink options."""

    job_id: str
    name: str
    pipeline: str
    version: str
    restore: str | None
    startup: str
    tables: tuple[str, ...]
    statements: str
    config: Mapping[str, str] = field(default_factory=dict)


def job_name(stream: str) -> str:
    return f"penstock.{stream}"


def job_id(env: str, pipeline: str, version: str, restore: str | None) -> str:
    """Return the job's id: 32 hex digits.  The same start has the same id, so Flink itself refuses to run it twice."""
    return hashlib.sha256("\n".join([env, pipeline, version, restore or ""]).encode()).hexdigest()[:32]


def version(pipeline: Pipeline) -> str:
    """Return 12 hex digits that change exactly when the job's tables or statements do, wherever it runs and began."""
    neutral = Environment(name="", kafka=KafkaSettings(bootstrap=""), flink=FlinkSettings())
    declared = replace(pipeline, launch=None)
    text = "\n".join([str(CONTRACT), *_tables(declared, neutral, "", ""), _statements(declared)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def transactional_prefix(env: str, pipeline: str, branch: str, run: str) -> str:
    """Return the prefix of a sink's transactional ids.  It ends in a delimiter, since prefixes are matched as such."""
    return f"penstock-{env}-{pipeline}-{branch}-{run}-"


def job_spec(
    pipeline: Pipeline,
    env: Environment,
    *,
    restore: str | None = None,
    startup: str = EARLIEST,
    run: int = 0,
) -> JobSpec:
    """Derive the job of `pipeline` in `env`, restored from the savepoint or checkpoint path `restore`.

    `startup` is where a job without restored state begins: earliest-offset, group-offsets, or specific-offsets, which
    are those of its launch.  `run` numbers its starts and is part of its identity: a start from scratch is another job
    than the one that began so before, whose savepoints and transactions must not be taken for its own.  Repeating one
    start keeps the number, so Flink refuses to run it twice.
    """
    made_from = version(pipeline)
    point = (restore or f"none:{startup}") + (f"#{run}" if run else "")
    identity = job_id(env.name, pipeline.stream, made_from, point)
    return JobSpec(
        job_id=identity,
        name=job_name(pipeline.stream),
        pipeline=pipeline.name,
        version=made_from,
        restore=restore,
        startup=startup,
        tables=_tables(pipeline, env, startup, identity[:8]),
        statements=_statements(pipeline),
        config=_config(pipeline, env, identity, restore),
    )


def _config(pipeline: Pipeline, env: Environment, identity: str, restore: str | None) -> dict[str, str]:
    interval = f"{env.flink.checkpoint_interval * 1000:.0f} ms"
    config = {
        "pipeline.name": job_name(pipeline.stream),
        "$internal.pipeline.job-id": identity,
        "parallelism.default": str(min(pipeline.parallelism or env.flink.parallelism, pipeline.source.partitions)),
        # A group's place in state depends on this number, so it is fixed for good.
        "pipeline.max-parallelism": "128",
        # Chained operators hand rows on without copying: no operator here keeps or changes a row it was given.
        "pipeline.object-reuse": "true",
        "table.local-time-zone": "UTC",
        "table.exec.source.idle-timeout": f"{millis(pipeline.source.idle_after)} ms",
        "execution.checkpointing.interval": interval,
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        # The plan keeps names and schemas; addresses, offsets and prefixes come from the tables at each start.
        "table.plan.compile.catalog-objects": "SCHEMA",
    }
    if restore:
        config["execution.state-recovery.path"] = restore
    return config


def _tables(pipeline: Pipeline, env: Environment, startup: str, run: str) -> tuple[str, ...]:
    source = sql.source_table(
        pipeline.source,
        sql.kafka_options(env)
        | {
            "properties.group.id": consumer_group(env.name, pipeline.stream),
            "properties.auto.offset.reset": "earliest",
            # A producer may use transactions: what it aborted was never written.
            "properties.isolation.level": "read_committed",
            # A slow stream is fetched in tens of requests a second, not in one for each record: a twentieth of a
            # second is little beside the checkpoint interval.
            "properties.fetch.min.bytes": "65536",
            "properties.fetch.max.wait.ms": "50",
            "scan.startup.mode": startup,
            **_specific(pipeline, startup),
            # A new partition is found while the job runs, so that more partitions need no restart.
            "scan.topic-partition-discovery.interval": "30 s",
        },
    )

    def sink(branch: str, topic: str) -> dict[str, str]:
        prefix = transactional_prefix(env.name, pipeline.name, branch, run)
        return sql.kafka_options(env) | sql.exactly_once(topic, prefix, env.flink)

    return (
        source,
        sql.out_table(pipeline, sink("out", out_topic(pipeline.stream))),
        sql.rejected_table("late", sink("late", late_topic(pipeline.stream))),
        sql.rejected_table("dlq", sink("dlq", dlq_topic(pipeline.stream))),
    )


def _specific(pipeline: Pipeline, startup: str) -> dict[str, str]:
    if startup != SPECIFIC or pipeline.launch is None:
        return {}
    return {"scan.startup.specific-offsets": sql.offsets(dict(pipeline.launch.low))}


def _statements(pipeline: Pipeline) -> str:
    source, transform, launch = pipeline.source, pipeline.transform, pipeline.launch
    rows = sql.on_time(source, transform, launch)
    if isinstance(transform, Aggregate):
        main = sql.aggregate_insert(source, transform, rows, results=sql.since_boundary(transform, launch))
    else:
        main = sql.select_insert(source, transform, rows)
    inserts = [main, sql.late_insert(source, transform, launch), sql.dlq_insert()]
    return "STATEMENT SET\nBEGIN\n" + "\n".join(f"{insert};" for insert in inserts) + "\nEND"
