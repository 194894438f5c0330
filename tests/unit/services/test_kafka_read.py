"""A read ends exactly at its end, whatever the end is made of."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError

from penstock.errors import PenstockError, UnavailableError
from penstock.services.kafka import arrow_batch
from penstock.services.kafka_read import _until_end
from tests.unit.services.fakes import FakeConsumer, FakeMessage, eof


def read(consumer: FakeConsumer, start: dict[int, int], end: dict[int, int]) -> list[tuple[int, int]]:
    batches = _until_end(consumer, "broker:1", "topic", start, end, patience=0.05)
    return [message.at for batch in batches for message in batch]


def records(partition: int, *offsets: int) -> list[FakeMessage]:
    return [FakeMessage((partition, offset)) for offset in offsets]


def test_ends_at_the_last_record() -> None:
    consumer = FakeConsumer(records(0, 0, 1), records(1, 5) + records(0, 2))
    assert read(consumer, {0: 0, 1: 5}, {0: 3, 1: 6}) == [(0, 0), (0, 1), (1, 5), (0, 2)]
    assert sorted(consumer.paused) == [0, 1]


def test_ends_where_markers_or_aborted_records_fill_the_tail() -> None:
    consumer = FakeConsumer(records(0, 0, 1), [eof(0, 7)])
    assert read(consumer, {0: 0}, {0: 7}) == [(0, 0), (0, 1)]


def test_an_end_of_partition_before_the_wanted_end_is_not_the_end() -> None:
    consumer = FakeConsumer([*records(0, 0), eof(0, 1)], records(0, 1, 2))
    assert read(consumer, {0: 0}, {0: 3}) == [(0, 0), (0, 1), (0, 2)]


def test_leaves_out_what_was_appended_since() -> None:
    consumer = FakeConsumer(records(0, 0, 1, 2, 3), records(0, 4) + records(1, 0))
    assert read(consumer, {0: 0, 1: 0}, {0: 2, 1: 1}) == [(0, 0), (0, 1), (1, 0)]


def test_says_where_it_is_stuck() -> None:
    with pytest.raises(UnavailableError, match=r"nothing came for 0\.05 s; partition 0 at 1 of 4") as caught:
        read(FakeConsumer(records(0, 0)), {0: 0}, {0: 4})
    assert "open transaction" in str(caught.value)


def test_being_told_the_end_again_is_no_progress() -> None:
    class Repeating(FakeConsumer):
        def consume(self, count: int, timeout: float) -> list[FakeMessage]:
            if not self.batches and time.monotonic() > deadline:
                pytest.fail("it goes on for ever")
            return super().consume(count, timeout) or [eof(0, 1)]

    deadline = time.monotonic() + 2
    with pytest.raises(UnavailableError, match="partition 0 at 1 of 4"):
        read(Repeating(records(0, 0)), {0: 0}, {0: 4})


def test_a_start_that_retention_removed_is_an_error() -> None:
    gone = FakeMessage((0, 0), code=KafkaError._AUTO_OFFSET_RESET)
    with pytest.raises(PenstockError, match="partition 0: offset 3 is not in the log") as caught:
        read(FakeConsumer([gone]), {0: 3}, {0: 4})
    assert not isinstance(caught.value, UnavailableError)


def test_a_lost_connection_is_waited_out() -> None:
    lost = FakeMessage((0, 0), code=KafkaError._TRANSPORT)
    assert read(FakeConsumer([lost], records(0, 0)), {0: 0}, {0: 1}) == [(0, 0)]


def test_a_failure_that_no_waiting_mends_is_raised() -> None:
    refused = FakeMessage((0, 0), code=KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(PenstockError, match="refused access"):
        read(FakeConsumer([refused]), {0: 0}, {0: 1})


def test_columns() -> None:
    batch = [FakeMessage((2, 7), b"\xff"), FakeMessage((2, 8), None)]
    table = arrow_batch(batch)  # type: ignore[arg-type]
    assert table.to_pylist() == [
        {"partition": 2, "offset": 7, "timestamp": 1007, "value": b"\xff"},
        {"partition": 2, "offset": 8, "timestamp": 1008, "value": None},
    ]
