"""The real writer over a client that answers as librdkafka does when things go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from penstock.errors import PenstockError, RefusedError, UnavailableError
from penstock.services import kafka_write
from penstock.services.kafka_write import KafkaWriter, Outgoing
from penstock.settings import KafkaSettings


class Message:
    def __init__(self, offset: int) -> None:
        self.offset = lambda: offset


class Producer:
    """`fail` maps a call's name to the errors that it raises, one after the other."""

    def __init__(self, **fail: list[Exception]) -> None:
        self.fail, self.calls = fail, list[str]()
        self.undelivered: KafkaError | None = None
        self._reports: list[Callable[[], None]] = []
        self._sent = 0

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*words: Any, **more: Any) -> int:
            if name != "flush":
                self.calls.append(f"produce {words[0]}" if name == "produce" else name)
            if self.fail.get(name):
                raise self.fail[name].pop(0)
            if name == "produce":
                self._sent += 1
                number, report = self._sent + 10, more["on_delivery"]
                self._reports.append(lambda: report(self.undelivered, Message(number)))
            if name == "flush":
                while self._reports:
                    self._reports.pop(0)()
            return 0

        return call


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Callable[[Producer], list[int]]:
    def call(producer: Producer) -> list[int]:
        monkeypatch.setattr(kafka_write, "connect", lambda *_: producer)
        writer = KafkaWriter(KafkaSettings(), "penstock-a", 1_000)
        records = [Outgoing("a", 0, b"k", b"x"), Outgoing("a", 1, b"l", b"y")]
        return writer.write(records, lambda offsets: [Outgoing("b", 0, None, str(offsets).encode())])

    return call


def _error(code: int, **more: bool) -> KafkaException:
    return KafkaException(KafkaError(code, "it says", **more))


def test_records_and_what_is_made_of_their_offsets_are_one_transaction(write: Callable[[Producer], list[int]]) -> None:
    producer = Producer()
    assert write(producer) == [11, 12]
    sent = ["produce a", "produce a", "produce b"]
    assert producer.calls == ["init_transactions", "begin_transaction", *sent, "commit_transaction"]


def test_a_commit_that_may_pass_is_tried_again(write: Callable[[Producer], list[int]]) -> None:
    producer = Producer(
        init_transactions=[_error(KafkaError._TIMED_OUT, retriable=True)],
        commit_transaction=[_error(KafkaError._TIMED_OUT, retriable=True)] * 2,
    )
    assert write(producer) == [11, 12]
    assert producer.calls.count("commit_transaction") == 3
    assert "abort_transaction" not in producer.calls


@pytest.mark.parametrize("call", ["begin_transaction", "produce", "commit_transaction"])
def test_what_fails_is_aborted_and_told(call: str, write: Callable[[Producer], list[int]]) -> None:
    producer = Producer(**{call: [_error(KafkaError.TOPIC_AUTHORIZATION_FAILED)]})
    with pytest.raises(PenstockError, match=r"as penstock-a: Kafka at .* refused access"):
        write(producer)
    assert producer.calls[-1] == "abort_transaction"


def test_a_record_that_is_not_delivered_ends_the_transaction(write: Callable[[Producer], list[int]]) -> None:
    producer = Producer()
    producer.undelivered = KafkaError(KafkaError._MSG_TIMED_OUT)
    with pytest.raises(PenstockError, match="writing as penstock-a"):
        write(producer)
    assert producer.calls[-1] == "abort_transaction" and "produce b" not in producer.calls


@pytest.mark.parametrize("code", [KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED])
@pytest.mark.parametrize("call", ["produce", "flush", "commit_transaction"])
def test_a_fenced_writer_says_so(call: str, code: int, write: Callable[[Producer], list[int]]) -> None:
    with pytest.raises(RefusedError, match="another process has taken over as penstock-a"):
        write(Producer(**{call: [_error(code, fatal=True)]}))


def test_a_fatal_error_may_come_out_of_a_callback(write: Callable[[Producer], list[int]]) -> None:
    wrapped = SystemError("returned a result with an exception set")
    wrapped.__cause__ = _error(KafkaError._FENCED, fatal=True)
    with pytest.raises(RefusedError, match="another process has taken over"):
        write(Producer(flush=[wrapped]))
    with pytest.raises(SystemError):
        write(Producer(flush=[SystemError("something else")]))


def test_no_broker_no_writer(write: Callable[[Producer], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_write, "TRANSACTION_TIMEOUT", 0.0)
    with pytest.raises(UnavailableError, match="taking over as penstock-a"):
        write(Producer(init_transactions=[_error(KafkaError._TIMED_OUT, retriable=True)]))
