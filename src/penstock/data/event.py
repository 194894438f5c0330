"""What is sent: one event."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

#: An event that a pipeline is to count.
GOOD = "good"


class Event(NamedTuple):
    """A record to send.  `report_time_ms` (epoch ms) paces a sped-up replay; `kind` is for the accounting.

    `partition` None leaves the choice to the key, hashed as Java's default partitioner does.
    """

    key: bytes | None
    value: bytes | None
    report_time_ms: int
    kind: str = GOOD
    partition: int | None = None


def record_key(value: Any) -> bytes:
    """Return the record's key for the value of the key field: text as it is, anything else as JSON."""
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()
