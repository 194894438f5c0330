"""Every broken record is broken in the one way that it names."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from penstock import Field, Topic
from penstock.data.load import MALFORMED
from penstock.data.malformed import broken, largest_value

TOPIC = Topic("a.b.v1", [Field("name", "string"), Field("n", "long"), Field("at", "timestamp_ms")], event_time="at")
ROW = {"name": "x", "n": 1, "at": 1_700_000_000_000}


def make(kind: str, topic: Topic = TOPIC, row: dict[str, Any] = ROW) -> bytes:
    value = broken(kind, topic, row, b"key", random.Random(0))
    assert value is not None
    return value


def test_null() -> None:
    assert broken("null value", TOPIC, ROW, None, random.Random(0)) is None


def test_invalid_utf8() -> None:
    for topic, row in ((TOPIC, ROW), (Topic("a.b.v1", [Field("at", "timestamp_ms")], event_time="at"), {"at": 1})):
        value = make("invalid UTF-8", topic, row)
        with pytest.raises(UnicodeDecodeError):
            value.decode()
        repaired = json.loads(value.decode(errors="replace"))
        assert repaired["at"] == row["at"]


def test_truncated_is_a_beginning_of_json_and_no_json() -> None:
    random_ = random.Random(0)
    whole = json.dumps(ROW, separators=(",", ":")).encode()
    for _ in range(200):
        value = broken("truncated", TOPIC, ROW, None, random_)
        assert value and whole.startswith(value)
        with pytest.raises(ValueError, match=r"."):
            json.loads(value)


def test_wrong_in_one_field_only() -> None:
    assert json.loads(make("wrong type")) == {**ROW, "at": "yesterday"}
    assert json.loads(make("missing required field")) == {"name": "x", "n": 1}
    assert json.loads(make("number out of range")) == {**ROW, "at": 2**63}


def test_nested_too_deeply_is_json_all_the_same() -> None:
    value = make("nested too deeply")
    opened = value.count(b"[")
    assert opened == value.count(b"]") == 5_000
    assert json.loads(value.replace(b"[" * opened + b"]" * opened, b"[]")) == {**ROW, "_deep": []}


@pytest.mark.parametrize("limit", [2_000, 20_000, 1_048_588])
@pytest.mark.parametrize("key", [None, b"k" * 3, b"k" * 70])
def test_the_largest_message_fills_its_batch_to_the_byte(limit: int, key: bytes | None) -> None:
    """The layout of Kafka's record batch (format 2), written out; sizes were tried against a broker, and one more."""

    def varint(value: int) -> bytes:
        zigzag, out = value << 1, b""
        while zigzag > 0x7F:
            out, zigzag = out + bytes([zigzag & 0x7F | 0x80]), zigzag >> 7
        return out + bytes([zigzag])

    size = largest_value(limit, key)
    for grown, fits in ((size, True), (size + 1, False)):
        written = b"\x01" if key is None else varint(len(key)) + key
        record = b"\0\0\0" + written + varint(grown) + b"v" * grown + varint(0)
        assert (61 + len(varint(len(record)) + record) <= limit) is fits


def test_the_largest_message_is_not_made_smaller_by_compression() -> None:
    import zlib

    value = make("largest message")
    assert len(value) == largest_value(TOPIC.max_message_bytes, b"key")
    assert len(zlib.compress(value)) >= len(value)
    assert value[0] == 0xFF  # never the start of UTF-8


def test_there_is_one_maker_for_each_kind() -> None:
    for kind in MALFORMED:
        broken(kind, TOPIC, ROW, None, random.Random(0))
    with pytest.raises(ValueError, match="unheard of"):
        broken("unheard of", TOPIC, ROW, None, random.Random(0))
