"""Kafka: the topics, offsets and records that Penstock reads and changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from penstock.errors import DeclarationError, RefusedError
from penstock.services import kafka_read
from penstock.services.kafka_client import TIMEOUT, client_properties, connect, translate
from penstock.services.kafka_write import KafkaWriter, Writer
from penstock.settings import KafkaSettings
from penstock.topics import TopicSpec
from penstock.wait import Pending, until

if TYPE_CHECKING:
    import pyarrow

#: Seconds for a change (a new topic, a new setting) to be done and seen.
CHANGE_TIMEOUT = 30.0

T = TypeVar("T")


@dataclass(frozen=True)
class TopicState:
    """A topic as found.  `config` holds the values set on the topic itself, not the broker's defaults."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


class Record(NamedTuple):
    """A record of a topic; `timestamp` is epoch ms.  A tuple: a frozen dataclass costs a quarter of the read rate."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class Kafka:
    """The cluster at `settings.bootstrap`; nothing is connected until the first call.  `MemoryKafka` is its twin.

    Every method raises UnavailableError where the broker can't be reached within `timeout` seconds, DeclarationError
    for an absent topic.  Offsets are dicts of partition to offset.
    """

    def __init__(self, settings: KafkaSettings, *, timeout: float = TIMEOUT) -> None:
        self.settings = settings
        self.timeout = timeout
        self._readers: dict[str, Any] = {}

    @cached_property
    def _admin(self) -> AdminClient:
        client: AdminClient = connect(AdminClient, client_properties(self.settings))
        return client

    def topics(self, names: Iterable[str]) -> dict[str, TopicState]:
        """Return those of the named topics that exist."""
        found = self._metadata()
        wanted = [name for name in dict.fromkeys(names) if name in found]
        if not wanted:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in wanted]
        answers = self._admin.describe_configs(resources, request_timeout=self.timeout)
        states = {}
        for resource, future in answers.items():
            entries: dict[str, Any] = self._result(future, f"settings of {resource.name}")
            own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
            config = {key: entry.value for key, entry in sorted(entries.items()) if entry.source == own}
            partitions = found[resource.name].partitions.values()
            replication = min((len(partition.replicas) for partition in partitions), default=0)
            states[resource.name] = TopicState(resource.name, len(partitions), replication, config)
        return states

    def create_topic(self, spec: TopicSpec) -> None:
        """Create the topic and wait until every partition has a leader; RefusedError where it exists."""
        self._metadata()
        new = NewTopic(spec.name, spec.partitions, spec.replication, config=dict(spec.config))
        future = self._admin.create_topics([new], request_timeout=CHANGE_TIMEOUT)[spec.name]
        try:
            future.result(CHANGE_TIMEOUT)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                raise RefusedError(f"topic {spec.name} exists already", hint="plan again: it was made since") from None
            raise translate(error, self.settings.bootstrap, f"creating topic {spec.name}") from None
        self._await_partitions(spec.name, spec.partitions)

    def alter_config(self, name: str, config: Mapping[str, str]) -> None:
        """Set these values, and leave all others as they are."""
        self._partitions(name)
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
        for future in self._admin.incremental_alter_configs([resource], request_timeout=CHANGE_TIMEOUT).values():
            self._result(future, f"setting {', '.join(config)} of topic {name}", CHANGE_TIMEOUT)

    def add_partitions(self, name: str, total: int) -> None:
        """Grow the topic to `total` partitions."""
        self._partitions(name)
        answers = self._admin.create_partitions([NewPartitions(name, total)], request_timeout=CHANGE_TIMEOUT)
        self._result(answers[name], f"growing topic {name} to {total} partitions", CHANGE_TIMEOUT)
        self._await_partitions(name, total)

    def delete_topic(self, name: str) -> None:
        """Delete the topic and wait until it is gone."""
        self._partitions(name)
        answers = self._admin.delete_topics([name], request_timeout=CHANGE_TIMEOUT)
        self._result(answers[name], f"deleting topic {name}", CHANGE_TIMEOUT)
        until(
            f"topic {name} deleted",
            lambda: Pending("still listed") if name in self._metadata() else True,
            timeout=CHANGE_TIMEOUT,
        )

    def start_offsets(self, topic: str) -> dict[int, int]:
        """Return the first offset of each partition that retention has left."""
        return self._offsets(topic, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED)  # type: ignore[no-untyped-call]

    def end_offsets(self, topic: str, *, committed: bool) -> dict[int, int]:
        """Return each partition's last stable offset (`committed`), else its high watermark."""
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return self._offsets(topic, OffsetSpec.latest(), level)  # type: ignore[no-untyped-call]

    def offsets_for_time(self, topic: str, ms: int) -> dict[int, int]:
        """Return each partition's first offset whose record timestamp is `ms` or later; its end where none is."""
        found = self._offsets(topic, OffsetSpec.for_timestamp(ms), IsolationLevel.READ_UNCOMMITTED)
        if all(offset >= 0 for offset in found.values()):
            return found
        ends = self.end_offsets(topic, committed=False)
        return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}

    def group_offsets(self, group: str, topic: str) -> dict[int, int]:
        """Return what the group has committed; partitions without a commit are absent."""
        wanted = [TopicPartition(topic, partition) for partition in self._partitions(topic)]
        try:
            found = self._reader_of(group).committed(wanted, timeout=self.timeout)
        except KafkaException as error:
            raise translate(error, self.settings.bootstrap, f"offsets of group {group}") from None
        for item in found:
            if item.error is not None:
                raise translate(item.error, self.settings.bootstrap, f"offsets of group {group}")
        return {item.partition: item.offset for item in found if item.offset >= 0}

    def reset_group(self, group: str, topic: str) -> None:
        """Commit the first offset of every partition for the group, whatever it had committed.

        Waits for the group's coordinator, which a fresh broker makes only when it is first asked for one.
        """
        first = [TopicPartition(topic, partition, offset) for partition, offset in self.start_offsets(topic).items()]

        def probe() -> bool:
            try:
                self._reader_of(group).commit(offsets=first, asynchronous=False)
            except KafkaException as error:
                raise translate(error, self.settings.bootstrap, f"resetting group {group}") from None
            return True

        until(f"group {group}", probe, timeout=CHANGE_TIMEOUT)

    def _reader_of(self, group: str) -> Any:
        """Return a consumer that never joins the group, and only asks what it has committed.

        The admin client could be asked too, but librdkafka 2.16.1 then kills the process while the group's coordinator
        moves or is being made: it tells the client's own group, and an admin client has none (`rd_kafka_cgrp_op`).
        """
        if group not in self._readers:
            options = {**client_properties(self.settings), "group.id": group, "enable.auto.commit": False}
            self._readers[group] = connect(Consumer, options)
        return self._readers[group]

    def read(
        self, topic: str, start: Mapping[int, int], end: Mapping[int, int], *, committed: bool = True
    ) -> Iterator[list[Record]]:
        """Yield the records from `start` up to, not including, `end`, in lists; end when all partitions are there."""
        self._partitions(topic)
        for batch in kafka_read.messages(self.settings, topic, start, end, committed=committed):
            yield [
                Record(m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers() or ())  # type: ignore[arg-type]
                for m in batch
            ]

    def read_arrow(
        self,
        topic: str,
        start: Mapping[int, int],
        end: Mapping[int, int],
        *,
        committed: bool = True,
        client_id: str | None = None,
    ) -> Iterator[pyarrow.RecordBatch]:
        """Like `read`, as batches of ARROW_COLUMNS.

        `client_id` is the name by which the brokers know the reader, and limit it.
        """
        self._partitions(topic)
        for batch in kafka_read.messages(self.settings, topic, start, end, committed=committed, client_id=client_id):
            yield arrow_batch(batch)

    def transactional(self, transactional_id: str, *, max_message_bytes: int) -> Writer:
        """Return the writer of this id, and fence the one before it: what that had open is ended by then."""
        return KafkaWriter(self.settings, transactional_id, max_message_bytes)

    def _metadata(self) -> dict[str, Any]:
        try:
            # All topics: asking for one by name would create it on a broker that creates topics by itself.
            return dict(self._admin.list_topics(timeout=self.timeout).topics)
        except KafkaException as error:
            self._admin.poll(0)  # a refused user is told to a callback
            raise translate(error, self.settings.bootstrap, "asking for its topics") from None

    def _partitions(self, topic: str) -> list[int]:
        found = self._metadata().get(topic)
        if found is None:
            raise DeclarationError(
                f"there is no topic {topic} at {self.settings.bootstrap}", hint="`penstock apply` creates topics"
            )
        return sorted(found.partitions)

    def _offsets(self, topic: str, spec: OffsetSpec, level: IsolationLevel) -> dict[int, int]:
        request = {TopicPartition(topic, partition): spec for partition in self._partitions(topic)}
        answers = self._admin.list_offsets(request, isolation_level=level, request_timeout=self.timeout)
        return {item.partition: self._result(answer, f"offsets of {topic}").offset for item, answer in answers.items()}

    def _result(self, future: Future[T], subject: str, timeout: float | None = None) -> T:
        try:
            return future.result((timeout or self.timeout) + 1)
        except TimeoutError:
            error = KafkaError(KafkaError._TIMED_OUT)
            raise translate(error, self.settings.bootstrap, subject) from None
        except KafkaException as failure:
            raise translate(failure, self.settings.bootstrap, subject) from None

    def _await_partitions(self, name: str, total: int) -> None:
        """Wait until `total` partitions have leaders: until then offsets can't be asked for, nor records sent."""

        def probe() -> bool | Pending:
            future = self._admin.describe_topics(TopicCollection([name]), request_timeout=self.timeout)[name]
            try:
                partitions = future.result(self.timeout + 1).partitions
            except (KafkaException, TimeoutError) as error:
                return Pending(f"not described yet: {error}")
            led = sum(partition.leader is not None and not partition.leader.id < 0 for partition in partitions)
            return led >= total or Pending(f"{led} of {total} partitions have a leader")

        until(f"topic {name}", probe, timeout=CHANGE_TIMEOUT, interval=0.05)


ARROW_COLUMNS = ("partition", "offset", "timestamp", "value")


def arrow_batch(batch: Sequence[Message]) -> pyarrow.RecordBatch:
    """Return messages as columns: partition int32, offset and timestamp (epoch ms) int64, value binary."""
    import pyarrow as pa

    columns = [
        pa.array([m.partition() for m in batch], pa.int32()),
        pa.array([m.offset() for m in batch], pa.int64()),
        pa.array([m.timestamp()[1] for m in batch], pa.int64()),
        pa.array([m.value() for m in batch], pa.binary()),
    ]
    return pa.record_batch(columns, names=list(ARROW_COLUMNS))
