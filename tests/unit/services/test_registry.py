"""The registry: what is written is read back, the newest counts, and nothing unreadable passes for a record."""

from __future__ import annotations

import pytest

from penstock.errors import PenstockError
from penstock.services.memory_kafka import MemoryKafka
from penstock.services.registry import STATUSES, Record, Registry, from_bytes, to_bytes
from penstock.settings import Environment


def registry(log: MemoryKafka, env: str = "test") -> Registry:
    return Registry(Environment(name=env), log, lambda topic, key, value: log.append(topic, value, key=key) and None)


def test_reading_creates_nothing_and_writing_creates_a_compacted_topic() -> None:
    log = MemoryKafka()
    assert registry(log).read() == {}
    assert log.calls == []
    registry(log).write(Record("a"))
    assert log.topics(["penstock.registry.v1"])["penstock.registry.v1"].config == {"cleanup.policy": "compact"}


def test_the_newest_record_of_each_pipeline_and_environment_counts() -> None:
    log = MemoryKafka()
    one, other = registry(log), registry(log, "other")
    one.write(Record("a", status="starting", job_id="1"))
    other.write(Record("a", status="stopped"))
    written = one.write(Record("a", status="running", job_id="1", spec={"x": [1]}))
    one.write(Record("b"))
    assert one.read() == {"a": written, "b": one.read()["b"]}
    assert other.read()["a"].status == "stopped"


def test_a_tombstone_forgets() -> None:
    log = MemoryKafka()
    registry(log).write(Record("a"))
    log.append("penstock.registry.v1", None, key=b"test/a")
    assert registry(log).read() == {}


def test_fields_of_a_newer_penstock_are_ignored() -> None:
    assert from_bytes(b'{"pipeline": "a", "status": "running", "unknown": 1}') == Record("a", status="running")


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b"\xff", b"null"])
def test_what_is_no_record_is_said(value: bytes) -> None:
    with pytest.raises(PenstockError, match="can't be read"):
        from_bytes(value)


def test_bytes_are_stable() -> None:
    record = Record("a", key=None, spec={"b": 1, "a": 2})
    assert to_bytes(record) == to_bytes(from_bytes(to_bytes(record)))


def test_every_status_is_explained() -> None:
    assert Record("a").status in STATUSES
