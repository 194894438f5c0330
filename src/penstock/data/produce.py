"""Send events to a topic: each exactly once, in order, as fast as possible or at a chosen pace."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock.data.event import Event
from penstock.data.meter import Meter, NoMeter
from penstock.data.murmur2 import partition_of
from penstock.errors import DeclarationError, PenstockError
from penstock.pipeline import Topic
from penstock.services.kafka import Kafka
from penstock.services.kafka_client import TIMEOUT, client_properties, connect, translate
from penstock.settings import KafkaSettings

#: Seconds for which a record is tried again before it counts as failed: far longer than a broker's restart.
DELIVERY_TIMEOUT = 300.0
#: Events between two looks at failures and at the meter.
_LOOK = 2_000
_BATCH_BYTES = 1_000_000


@dataclass(frozen=True)
class Produced:
    """What was sent and acknowledged: `kinds` counts the events of each kind, `seconds` is until the last answer."""

    count: int
    seconds: float
    kinds: Mapping[str, int]

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.count / self.seconds if self.seconds else 0.0


def producer_properties(settings: KafkaSettings, topic: Topic) -> dict[str, Any]:
    """Return the producer's properties.  Record timestamps are its wall clock, never event time."""
    return {
        **client_properties(settings),
        # A batch that is sent again after a broker's restart is recognised by its number.
        "enable.idempotence": True,
        "acks": "all",
        "delivery.timeout.ms": int(DELIVERY_TIMEOUT * 1000),
        # The Java clients' choice of partition, so that all writers of a topic agree.
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        # A slow stream in small requests costs the broker and every reader far more than its events do.
        "linger.ms": 25,
        "batch.num.messages": 100_000,
        "batch.size": min(_BATCH_BYTES, topic.max_message_bytes),
        "message.max.bytes": max(1_000, topic.max_message_bytes),
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 262_144,
        "retry.backoff.max.ms": 500,
        "delivery.report.only.error": True,
    }


def produce(
    settings: KafkaSettings,
    topic: Topic,
    events: Iterable[Event],
    *,
    speedup: float | None = None,
    rate: float | None = None,
    progress: Meter | None = None,
) -> Produced:
    """Send all events and wait until each is acknowledged.

    `rate` paces by events a second; `speedup` by report time (86400: a day of it in a second); neither: full speed.
    A broker may be away for up to DELIVERY_TIMEOUT, without loss or repetition.  Raises UnavailableError where no
    broker answers at the start, DeclarationError for an absent topic, and PenstockError with the number of records
    that could not be delivered.
    """
    if speedup is not None and rate is not None:
        raise DeclarationError("a run is paced by rate or by speedup, not by both")
    for name, value in (("speedup", speedup), ("rate", rate)):
        if value is not None and value <= 0:
            raise DeclarationError(f"{name} = {value:g}: a pace is more than 0; for example 1000")
    service = Kafka(settings, timeout=TIMEOUT)
    if topic.name not in service.topics([topic.name]):
        raise DeclarationError(
            f"there is no topic {topic.name} at {settings.bootstrap}", hint="`penstock apply` creates topics"
        )
    failures = _Failures()
    properties = producer_properties(settings, topic) | {"on_delivery": failures}
    sender = _Sender(connect(Producer, properties), settings.bootstrap, topic.name, failures, progress or NoMeter())
    return sender.run(events, _due(speedup, rate))


def undelivered(events: Iterable[Event], there: Mapping[int, int]) -> Iterator[Event]:
    """Yield what is still to be sent of a seeded run that was broken off; `there` is each partition's record count.

    A producer fills every partition in order, but not all equally far, so a count of the whole would not do: sending
    goes on after the last event that each partition has.
    """
    left = dict(there)
    for event in events:
        partition = event.partition
        if partition is None:
            if event.key is None:
                raise DeclarationError("a run without keys or partitions can't be gone on with")
            partition = partition_of(event.key, len(left))
        if left[partition] > 0:
            left[partition] -= 1
        else:
            yield event


def _due(speedup: float | None, rate: float | None) -> Callable[[int, int], float] | None:
    """Return the function of (number, report time since the first, ms) that says when an event is due, in seconds."""
    if rate is not None:
        interval = 1 / rate
        return lambda number, _: number * interval
    if speedup is not None:
        scale = 1 / (1000 * speedup)
        return lambda _, elapsed_ms: elapsed_ms * scale
    return None


class _Failures:
    """Counts records that could not be delivered, and keeps the first reason."""

    def __init__(self) -> None:
        self.count = 0
        self.first: KafkaError | None = None

    def __call__(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.count += 1
            self.first = self.first or error


class _Sender:
    def __init__(self, producer: Any, bootstrap: str, topic: str, failures: _Failures, meter: Meter) -> None:
        self._producer = producer
        self._bootstrap = bootstrap
        self._topic = topic
        self._failures = failures
        self._meter = meter
        self._sent = 0

    def run(self, events: Iterable[Event], due: Callable[[int, int], float] | None) -> Produced:
        began = time.perf_counter()
        kinds: Counter[str] = Counter()
        send, topic = self._producer.produce, self._topic
        first: int | None = None
        try:
            for key, value, report, kind, partition in events:
                if due is not None:
                    first = report if first is None else first
                    self._wait_until(began + due(self._sent, report - first))
                try:
                    if value is not None and len(value) > _BATCH_BYTES // 2:
                        self._alone(value, key, partition)
                    else:
                        send(topic, value, key, -1 if partition is None else partition)
                except BufferError:
                    self._when_there_is_room(value, key, partition)
                kinds[kind] += 1
                self._sent += 1
                if self._sent % _LOOK == 0:
                    self._look()
            self._flush()
        except KafkaException as error:
            raise translate(error, self._bootstrap, f"sending to {topic}") from None
        except KeyboardInterrupt:
            self._producer.flush(10)
            raise
        self._raise_failures()
        self._meter.update(self._sent)
        return Produced(self._sent, time.perf_counter() - began, dict(kinds))

    def _alone(self, value: bytes, key: bytes | None, partition: int | None) -> None:
        """Send a large record in a batch of its own: a topic's limit is on the batch."""
        self._flush()
        self._producer.produce(self._topic, value, key, -1 if partition is None else partition)
        self._flush()

    def _when_there_is_room(self, value: bytes | None, key: bytes | None, partition: int | None) -> None:
        """The queue is full: Kafka is slower than the events, or away."""
        stalled = time.monotonic()
        while True:
            self._producer.poll(0.05)
            self._raise_failures()
            try:
                self._producer.produce(self._topic, value, key, -1 if partition is None else partition)
                return
            except BufferError:
                waited = time.monotonic() - stalled
                self._meter.update(self._sent, f"waiting for Kafka, {waited:.0f} s" if waited > 2 else "")

    def _wait_until(self, moment: float) -> None:
        while (left := moment - time.perf_counter()) > 0.001:
            self._producer.poll(min(left, 0.5))
            if left > 0.1:
                self._look()

    def _look(self) -> None:
        self._producer.poll(0)
        self._raise_failures()
        self._meter.update(self._sent)

    def _flush(self) -> None:
        """Wait until all is acknowledged; each record's own timeout ends the wait."""
        began = time.monotonic()
        while self._producer.flush(0.5):
            waited = time.monotonic() - began
            if waited > 2:
                self._meter.update(self._sent, f"waiting for Kafka, {len(self._producer)} unanswered, {waited:.0f} s")

    def _raise_failures(self) -> None:
        if not self._failures.count:
            return
        self._producer.purge()
        assert self._failures.first is not None
        raise PenstockError(
            f"{self._failures.count} or more records could not be sent to {self._topic} at {self._bootstrap}: "
            f"{self._failures.first.str()}",
            hint="what was acknowledged before stays in the topic",
        )
