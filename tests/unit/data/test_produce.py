"""Sending: what is asked of the producer, the pace, a full queue, failures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from penstock import Field, Topic
from penstock.data import produce as module
from penstock.data.event import Event
from penstock.data.murmur2 import partition_of
from penstock.data.produce import _due, _Failures, _Sender, produce, producer_properties, undelivered
from penstock.errors import DeclarationError, PenstockError, UnavailableError
from penstock.settings import KafkaSettings

TOPIC = Topic("a.b.v1", [Field("at", "timestamp_ms")], event_time="at")


class FakeProducer:
    """Keeps what is sent; `room` False means a full queue until the next poll."""

    def __init__(self, on_delivery: Callable[..., None] | None = None) -> None:
        self.log: list[tuple[str, Any]] = []
        self.room = True
        self.on_delivery = on_delivery
        self.purged = False

    def produce(self, topic: str, value: bytes | None, key: bytes | None, partition: int) -> None:
        if not self.room:
            raise BufferError
        self.log.append(("send", (topic, value, key, partition)))

    def poll(self, timeout: float) -> None:
        time.sleep(min(timeout, 0.01))
        self.room = True
        if self.on_delivery:
            self.on_delivery(KafkaError(KafkaError._MSG_TIMED_OUT), None)

    def flush(self, timeout: float) -> int:
        self.log.append(("flush", None))
        return 0

    def purge(self) -> None:
        self.purged = True


class Notes:
    def __init__(self) -> None:
        self.done = 0

    def update(self, done: int, note: str = "") -> None:
        self.done = done


def sender(producer: FakeProducer, failures: _Failures | None = None, meter: Notes | None = None) -> _Sender:
    return _Sender(producer, "broker:1", "a.b.v1", failures or _Failures(), meter or Notes())


def test_sends_in_order_with_key_and_partition_and_counts_kinds() -> None:
    producer, notes = FakeProducer(), Notes()
    events = [Event(b"k", b"1", 0), Event(None, None, 0, "null value", 3), Event(b"k", b"2", 0)]
    done = sender(producer, meter=notes).run(events, None)
    assert [what for name, what in producer.log if name == "send"] == [
        ("a.b.v1", b"1", b"k", -1),
        ("a.b.v1", None, None, 3),
        ("a.b.v1", b"2", b"k", -1),
    ]
    assert (done.count, done.kinds, notes.done) == (3, {"good": 2, "null value": 1}, 3)
    assert producer.log[-1] == ("flush", None)


def test_a_large_record_is_alone_in_its_batch() -> None:
    producer = FakeProducer()
    sender(producer).run([Event(None, b"a", 0), Event(None, b"x" * 900_000, 0), Event(None, b"b", 0)], None)
    assert [name for name, _ in producer.log] == ["send", "flush", "send", "flush", "send", "flush"]


def test_waits_while_the_queue_is_full() -> None:
    producer = FakeProducer()
    producer.room = False
    assert sender(producer).run([Event(None, b"a", 0)], None).count == 1
    assert [name for name, _ in producer.log] == ["send", "flush"]


def test_undelivered_records_are_an_error_with_their_number() -> None:
    failures = _Failures()
    producer = FakeProducer(on_delivery=failures)
    with pytest.raises(PenstockError, match=r"1 or more records could not be sent to a\.b\.v1 at broker:1"):
        sender(producer, failures).run((Event(None, b"a", 0) for _ in range(3_000)), None)
    assert producer.purged
    assert len([1 for name, _ in producer.log if name == "send"]) == 2_000  # it stopped at the first look


def test_pace() -> None:
    by_rate, by_report = _due(None, 1_000), _due(86_400, None)
    assert by_rate and by_report
    assert by_rate(500, 10**9) == pytest.approx(0.5)
    assert by_report(5, 86_400_000) == pytest.approx(1.0)  # a day a second
    assert _due(None, None) is None


def test_a_paced_run_takes_its_time() -> None:
    events = [Event(None, b"a", 1_000_000 + 10 * number) for number in range(21)]  # 200 ms of reports
    done = sender(FakeProducer()).run(events, _due(2.0, None))
    assert 0.099 <= done.seconds < 1.0
    assert done.rate == pytest.approx(21 / done.seconds)


def test_the_producer_neither_loses_nor_repeats_nor_dates() -> None:
    properties = producer_properties(KafkaSettings(bootstrap="b:1"), TOPIC)
    assert properties["bootstrap.servers"] == "b:1"
    assert properties["enable.idempotence"] is True
    assert properties["acks"] == "all"
    assert properties["delivery.timeout.ms"] >= 120_000
    assert properties["partitioner"] == "murmur2_random"


@pytest.mark.parametrize("pace", [{"speedup": 1.0, "rate": 1.0}, {"rate": 0.0}, {"speedup": -1.0}])
def test_a_pace_that_makes_no_sense_is_refused_before_anything_is_sent(pace: dict[str, float]) -> None:
    with pytest.raises(DeclarationError):
        produce(KafkaSettings(bootstrap="127.0.0.1:1"), TOPIC, [], **pace)


def test_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        produce(KafkaSettings(bootstrap="127.0.0.1:1"), TOPIC, [Event(None, b"", 0)])


def test_a_broken_off_run_goes_on_where_each_partition_ends() -> None:
    keys = [b"21", b"foobar", b"abc"]
    events = [Event(keys[number % 3], b"%d" % number, 0) for number in range(30)]
    sent: dict[int, list[Event]] = {partition: [] for partition in range(4)}
    for event in events:
        sent[partition_of(event.key or b"", 4)].append(event)
    there = {partition: len(found) // (partition + 1) for partition, found in sent.items()}
    rest = list(undelivered(events, there))
    whole = {partition: found[: there[partition]] for partition, found in sent.items()}
    for event in rest:
        whole[partition_of(event.key or b"", 4)].append(event)
    assert whole == sent
    assert list(undelivered([Event(None, b"", 0, partition=1)] * 3, {0: 5, 1: 2})) == [Event(None, b"", 0, partition=1)]
    with pytest.raises(DeclarationError):
        list(undelivered([Event(None, b"", 0)], {0: 1}))
