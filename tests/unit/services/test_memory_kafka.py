"""The twin has the same face as the real thing, and its transactions and offsets behave as Kafka's do."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import pytest

from penstock.errors import DeclarationError, PenstockError, RefusedError, UnavailableError
from penstock.services.kafka import Kafka
from penstock.services.kafka_write import Outgoing
from penstock.services.memory_kafka import MemoryKafka
from penstock.topics import TopicSpec


@pytest.fixture
def kafka() -> MemoryKafka:
    twin = MemoryKafka()
    twin.create_topic(TopicSpec("a.b.v1", 2, 1, {"retention.ms": "1000"}))
    return twin


def test_every_method_is_there_with_the_same_signature() -> None:
    methods = {name: member for name, member in inspect.getmembers(Kafka, inspect.isfunction) if name[0] != "_"}
    assert {"topics", "read", "read_arrow", "group_offsets"} <= set(methods)
    for name, method in methods.items():
        assert inspect.signature(getattr(MemoryKafka, name)) == inspect.signature(method), name


def test_topics_change_as_asked(kafka: MemoryKafka) -> None:
    kafka.alter_config("a.b.v1", {"max.message.bytes": "5"})
    kafka.add_partitions("a.b.v1", 3)
    state = kafka.topics(["absent", "a.b.v1"])["a.b.v1"]
    assert (state.partitions, dict(state.config)) == (3, {"max.message.bytes": "5", "retention.ms": "1000"})
    with pytest.raises(RefusedError):
        kafka.create_topic(TopicSpec("a.b.v1", 1, 1))
    with pytest.raises(PenstockError):
        kafka.add_partitions("a.b.v1", 2)
    kafka.delete_topic("a.b.v1")
    assert kafka.topics(["a.b.v1"]) == {}
    with pytest.raises(DeclarationError):
        kafka.end_offsets("a.b.v1", committed=True)
    assert [call for call, _ in kafka.calls] == ["create_topic", "alter_config", "add_partitions", "delete_topic"]


def test_readers_of_committed_records_stop_at_an_open_transaction(kafka: MemoryKafka) -> None:
    kafka.append("a.b.v1", b"x", timestamp=10)
    kafka.append("a.b.v1", b"y", timestamp=20, transaction=True)
    assert kafka.end_offsets("a.b.v1", committed=True) == {0: 1, 1: 0}
    assert kafka.end_offsets("a.b.v1", committed=False) == {0: 2, 1: 0}
    with pytest.raises(UnavailableError):
        list(kafka.read("a.b.v1", {}, {0: 2}))
    kafka.end_transaction("a.b.v1", commit=True)
    end = kafka.end_offsets("a.b.v1", committed=True)
    assert end == {0: 3, 1: 0}
    assert [record.value for batch in kafka.read("a.b.v1", {}, end) for record in batch] == [b"x", b"y"]
    assert kafka.offsets_for_time("a.b.v1", 15) == {0: 1, 1: 0}
    assert kafka.offsets_for_time("a.b.v1", 25) == {0: 3, 1: 0}


def test_aborted_records_are_read_only_if_asked_for(kafka: MemoryKafka) -> None:
    kafka.append("a.b.v1", b"x", transaction=True)
    kafka.end_transaction("a.b.v1", commit=False)
    assert list(kafka.read("a.b.v1", {}, {0: 2})) == []
    assert [record.value for record in next(kafka.read("a.b.v1", {}, {0: 2}, committed=False))] == [b"x"]


def test_columns(kafka: MemoryKafka) -> None:
    kafka.append("a.b.v1", b"x", key=b"k")
    (batch,) = kafka.read_arrow("a.b.v1", {}, {0: 1})
    assert batch.to_pylist() == [{"partition": 0, "offset": 0, "timestamp": 0, "value": b"x"}]


def test_what_retention_removed_is_an_error(kafka: MemoryKafka) -> None:
    kafka.append("a.b.v1", b"x")
    kafka.append("a.b.v1", b"y")
    kafka.expire("a.b.v1", 0, 1)
    assert kafka.start_offsets("a.b.v1") == {0: 1, 1: 0}
    with pytest.raises(PenstockError, match="not in the log"):
        list(kafka.read("a.b.v1", {0: 0}, {0: 2}))


def test_groups_and_a_broker_that_is_down(kafka: MemoryKafka) -> None:
    kafka.commit_group("g", "a.b.v1", {0: 4})
    assert kafka.group_offsets("g", "a.b.v1") == {0: 4}
    assert kafka.group_offsets("other", "a.b.v1") == {}
    kafka.down = True
    with pytest.raises(UnavailableError):
        kafka.topics([])


def test_a_writer_s_transaction_is_there_as_a_whole_and_ends_with_markers(kafka: MemoryKafka) -> None:
    writer = kafka.transactional("penstock-a", max_message_bytes=100)

    def then(offsets: Sequence[int]) -> list[Outgoing]:
        assert kafka.end_offsets("a.b.v1", committed=True) == {0: 0, 1: 0}, "not yet"
        return [Outgoing("a.b.v1", 1, None, str(offsets).encode())]

    assert writer.write([Outgoing("a.b.v1", 0, b"k", b"x"), Outgoing("a.b.v1", 0, b"k", b"y")], then) == [0, 1]
    end = kafka.end_offsets("a.b.v1", committed=True)
    assert end == {0: 3, 1: 2}
    assert [record.value for batch in kafka.read("a.b.v1", {}, end) for record in batch] == [b"x", b"y", b"[0, 1]"]

    def fails(_: Sequence[int]) -> list[Outgoing]:
        raise PenstockError("no")

    with pytest.raises(PenstockError):
        writer.write([Outgoing("a.b.v1", 0, None, b"z")], fails)
    assert kafka.end_offsets("a.b.v1", committed=True) == {0: 5, 1: 2}, "aborted, with a marker"
    assert [it.value for batch in kafka.read("a.b.v1", {0: 2}, {0: 5}) for it in batch] == []


def test_who_takes_an_id_fences_the_one_before_and_ends_what_it_left_open(kafka: MemoryKafka) -> None:
    first = kafka.transactional("penstock-a", max_message_bytes=100)
    other = kafka.transactional("penstock-b", max_message_bytes=100)

    class Died(BaseException):
        pass

    def dies(_: Sequence[int]) -> list[Outgoing]:
        raise Died

    with pytest.raises(Died):
        first.write([Outgoing("a.b.v1", 0, None, b"x")], dies)
    assert kafka.end_offsets("a.b.v1", committed=True) == {0: 0, 1: 0}, "left open"
    second = kafka.transactional("penstock-a", max_message_bytes=100)
    assert kafka.end_offsets("a.b.v1", committed=True) == {0: 2, 1: 0}
    with pytest.raises(RefusedError, match="another process has taken over as penstock-a"):
        first.write([Outgoing("a.b.v1", 0, None, b"x")], lambda _: [])
    assert second.write([Outgoing("a.b.v1", 1, None, b"y")], lambda _: []) == [0]
    assert other.write([Outgoing("a.b.v1", 1, None, b"z")], lambda _: []) == [2]
