"""2. Topics: what a pipeline needs in Kafka."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.durations import millis
from penstock.pipeline import Pipeline, Topic
from penstock.settings import Environment

#: A broken record is kept whole with its headers, so these topics take more than the source does.
HEADROOM_BYTES = 64 * 1024


@dataclass(frozen=True)
class TopicSpec:
    """A topic as wanted.  `config` holds only what Penstock decides; anything else on the topic is left alone."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)
    role: str = "source"
    external: bool = False
    key: str | None = None


def out_topic(stream: str) -> str:
    return f"penstock.{stream}.out"


def late_topic(stream: str) -> str:
    return f"penstock.{stream}.late"


def dlq_topic(stream: str) -> str:
    return f"penstock.{stream}.dlq"


def derived_topics(stream: str) -> list[str]:
    """Return the names of all topics that are a job's own."""
    return [out_topic(stream), late_topic(stream), dlq_topic(stream)]


def consumer_group(env: str, stream: str) -> str:
    """The group under which the Flink job shows its progress; the job's checkpoint, not this, is the truth."""
    return f"penstock-{env}-{stream}"


def source_topic(topic: Topic, env: Environment) -> TopicSpec:
    """Return the source as wanted: its retention is the log that replays read, so nothing is compacted away."""
    config = {
        "cleanup.policy": "delete",
        "retention.ms": str(millis(topic.retention)),
        "max.message.bytes": str(topic.max_message_bytes),
    }
    return TopicSpec(
        topic.name, topic.partitions, env.kafka.replication, config, "source", external=topic.external, key=topic.key
    )


def topic_specs(pipeline: Pipeline, env: Environment) -> list[TopicSpec]:
    """Return the pipeline's topics: source, out, late, dead-letter.  All live as long as the source does."""
    source = source_topic(pipeline.source, env)
    kept = dict(source.config) | {"max.message.bytes": str(pipeline.source.max_message_bytes + HEADROOM_BYTES)}

    def derived(name: str, role: str) -> TopicSpec:
        return TopicSpec(name, source.partitions, source.replication, kept, role)

    return [
        source,
        derived(out_topic(pipeline.stream), "out"),
        derived(late_topic(pipeline.stream), "late"),
        derived(dlq_topic(pipeline.stream), "dlq"),
    ]


def registry_topic(env: Environment) -> TopicSpec:
    """Return the compacted topic that remembers what was applied."""
    config = {"cleanup.policy": "compact"}
    return TopicSpec("penstock.registry.v1", 1, env.kafka.replication, config, "registry")
