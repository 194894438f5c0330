"""What a job has set aside: the records in its late and its dead-letter topic, and where in the source they were.

These topics may hold records of several source topics: a pipeline that was moved to another one keeps them.  A place
(partition and offset) is one record's in one topic only, and where that was deleted and made anew the timestamp tells
the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:  # its module imports the Kafka client
    from penstock.services.kafka import Record


class Log(Protocol):
    """What is needed of Kafka (`penstock.services.kafka`)."""

    def start_offsets(self, topic: str) -> dict[int, int]: ...
    def end_offsets(self, topic: str, *, committed: bool) -> dict[int, int]: ...
    def read(self, topic: str, start: Mapping[int, int], end: Mapping[int, int]) -> Iterable[list[Record]]: ...


class Rejected(NamedTuple):
    """Where a record was in the source, its timestamp there (epoch ms), and why it was set aside.

    `event_time` (epoch ms) is a late one's.  `record` is what was kept of it: its bytes are the value.
    """

    partition: int
    offset: int
    timestamp: int
    reason: str
    event_time: int | None
    record: Record


def read_rejected(log: Log, topic: str, source: str, end: Mapping[int, int] | None = None) -> Iterator[list[Rejected]]:
    """Yield what a late or dead-letter topic holds of the source, up to `end` (None: all that is committed by now).

    A job that was started without its state has read records again: the same one may be there twice.
    """
    end = log.end_offsets(topic, committed=True) if end is None else end
    for batch in log.read(topic, log.start_offsets(topic), end):
        yield [found for record in batch if (found := _read(record, source)) is not None]


def _read(record: Record, source: str) -> Rejected | None:
    headers = {name: value.decode() for name, value in record.headers}
    if headers["topic"] != source:
        return None
    time = headers.get("event_time")
    place = int(headers["partition"]), int(headers["offset"]), int(headers["timestamp"])
    return Rejected(*place, headers["reason"], None if time is None else int(time), record)
