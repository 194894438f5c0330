"""Reading a stretch of a topic: from given offsets to given offsets, fast, and ending exactly there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from penstock.errors import PenstockError, UnavailableError
from penstock.services.kafka_client import HINT, client_properties, connect, translate
from penstock.settings import KafkaSettings

BATCH = 10_000
#: Seconds without any progress after which a read gives up; longer than a broker needs to restart.
PATIENCE = 60.0
_POLL = 0.1

_READER = {
    # No group is joined and nothing is committed: the name is only there because librdkafka asks for one.
    "group.id": "penstock-reader",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # The end of a partition is an event, with its offset: the only word of markers and aborted records at the tail.
    "enable.partition.eof": True,
    # A start that retention has removed is an error; to begin elsewhere would lose rows without a trace.
    "auto.offset.reset": "error",
    # With the defaults a fetch brings 1 MB and waits long between: 190,000 records/s instead of 740,000.
    "queued.min.messages": 1_000_000,
    "queued.max.messages.kbytes": 131_072,
    "fetch.message.max.bytes": 4_194_304,
    "fetch.wait.max.ms": 50,
    "fetch.error.backoff.ms": 50,
}


def messages(
    settings: KafkaSettings,
    topic: str,
    start: Mapping[int, int],
    end: Mapping[int, int],
    *,
    committed: bool,
    patience: float = PATIENCE,
    client_id: str | None = None,
) -> Iterator[list[Message]]:
    """Yield the messages with start <= offset < end of every partition in `end`, in order within a partition.

    `client_id` is the name by which the brokers know the reader, and limit it.
    A partition is done when its position, transaction markers and aborted records included, has reached its end.
    Raises UnavailableError after `patience` seconds without progress, and PenstockError where the log no longer
    reaches back to `start`.
    """
    position = {partition: start.get(partition, 0) for partition, stop in end.items() if start.get(partition, 0) < stop}
    if not position:
        return
    isolation = "read_committed" if committed else "read_uncommitted"
    named = {"client.id": client_id} if client_id else {}
    consumer = connect(Consumer, {**client_properties(settings), **_READER, **named, "isolation.level": isolation})
    try:
        consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in position.items()])
        yield from _until_end(consumer, settings.bootstrap, topic, position, end, patience)
    finally:
        consumer.close()


def _until_end(
    consumer: Any, bootstrap: str, topic: str, position: dict[int, int], end: Mapping[int, int], patience: float
) -> Iterator[list[Message]]:
    pending = dict(position)
    moved = time.monotonic()
    while pending:
        batch: list[Any] = consumer.consume(BATCH, _POLL)
        good = [message for message in batch if message.error() is None]
        last = dict(zip([m.partition() for m in good], [m.offset() for m in good], strict=True))
        reached = {partition: offset + 1 for partition, offset in last.items()}
        if len(good) != len(batch):
            ends = [message for message in batch if message.error() is not None]
            reached |= _ends(ends, bootstrap, topic, pending)
        advanced = {p: offset for p, offset in reached.items() if p in pending and offset > pending[p]}
        if any(offset >= end[partition] for partition, offset in last.items()):
            # Past the end: rows appended since, or still in flight for a partition that is done.
            good = [message for message in good if message.offset() < end[message.partition()]]
        if good:
            yield good
        pending |= advanced
        done = [partition for partition, offset in pending.items() if offset >= end[partition]]
        if done:
            consumer.pause([TopicPartition(topic, partition) for partition in done])
            pending = {partition: offset for partition, offset in pending.items() if partition not in done}
        if advanced:
            moved = time.monotonic()
        elif time.monotonic() - moved > patience:
            raise _stuck(bootstrap, topic, pending, end, patience)


def _ends(batch: list[Any], bootstrap: str, topic: str, pending: Mapping[int, int]) -> dict[int, int]:
    """Return where partitions were found to end; raise for errors that no waiting mends."""
    found: dict[int, int] = {}
    for message in batch:
        error = message.error()
        if error.code() == KafkaError._PARTITION_EOF:
            found[message.partition()] = message.offset()
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            at = pending.get(message.partition(), message.offset())
            raise PenstockError(
                f"{topic}, partition {message.partition()}: offset {at} is not in the log: {error.str()}",
                hint="the topic's retention has removed it, or the topic was made anew; begin at its start offsets",
            )
        elif not error.retriable() and error.code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            raise translate(error, bootstrap, f"reading {topic}")
    return found


def _stuck(
    bootstrap: str, topic: str, pending: Mapping[int, int], end: Mapping[int, int], patience: float
) -> UnavailableError:
    where = ", ".join(f"partition {p} at {offset} of {end[p]}" for p, offset in sorted(pending.items()))
    return UnavailableError(
        f"reading {topic} from Kafka at {bootstrap}: nothing came for {patience:g} s; {where}",
        hint=f"an open transaction holds its readers up (`penstock doctor` finds it), or the broker is down: {HINT}",
    )
