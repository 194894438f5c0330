"""Records that no pipeline can read, one maker for each way of being wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

from penstock.pipeline import Topic

#: Deeper than any parser's limit in use here (Jackson's is 1,000).
DEPTH = 5_000


def broken(kind: str, topic: Topic, row: dict[str, Any], key: bytes | None, random_: random.Random) -> bytes | None:
    """Return a value that is wrong in the way of `kind` (a key of `load.MALFORMED`) and in no other."""
    time = topic.event_time
    match kind:
        case "null value":
            return None
        case "invalid UTF-8":
            # Inside a string where there is one, else in a field of its own.
            strings = [item.name for item in topic.fields if item.type == "string"]
            name = strings[0] if strings else "_text"
            return _text({**row, name: "@"}).replace(b'"@"', b'"\xc3\x28\xff"')
        case "truncated":
            value = _text(row)
            return value[: random_.randrange(1, len(value))]
        case "wrong type":
            return _text({**row, time: "yesterday"})
        case "missing required field":
            return _text({name: value for name, value in row.items() if name != time})
        case "number out of range":
            return _text({**row, time: 2**63})
        case "nested too deeply":
            return _text(row)[:-1] + b',"_deep":' + b"[" * DEPTH + b"]" * DEPTH + b"}"
        case "largest message":
            size = largest_value(topic.max_message_bytes, key)
            # Random, so that it stays as large when it is compressed.
            return b"\xff" + random_.randbytes(size - 1)
    raise ValueError(kind)


def _text(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode()


def largest_value(max_message_bytes: int, key: bytes | None, headers: Sequence[tuple[str, bytes]] = ()) -> int:
    """Return the size of the largest value that a topic takes with this key and these headers, alone in its batch.

    `max.message.bytes` bounds the whole batch: 61 bytes of its own header, then the record: its length, attributes,
    time and offset within the batch, key and value with their lengths, and the number of headers, each a name and a
    value with their lengths.  Lengths are zigzag varints; a null key has the length -1.  Less than 0: there is no room.
    """
    keyed = 1 if key is None else _varint(len(key)) + len(key)
    headed = _varint(len(headers)) + sum(
        _varint(len(part)) + len(part) for name, value in headers for part in (name.encode(), value)
    )
    fixed = 61 + 1 + 1 + 1 + keyed + headed
    size = max_message_bytes - fixed
    while size >= 0:
        record = 3 + keyed + _varint(size) + size + headed
        over = 61 + _varint(record) + record - max_message_bytes
        if over <= 0:
            return size
        size -= over
    return size


def _varint(value: int) -> int:
    """Return how many bytes a zigzag varint takes, for a value that is not negative."""
    return max(1, -(-(value * 2).bit_length() // 7))
