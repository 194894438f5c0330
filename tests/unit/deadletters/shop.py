"""A topic with broken records in memory, two pipelines that have them as dead letters, and a redrive of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock import Pipeline, Topic
from penstock.deadletters.fix import Fix
from penstock.deadletters.letters import Letter, Place
from penstock.deadletters.markers import FROM, TOPIC
from penstock.deadletters.redrive import Redrive, Request, redrive
from penstock.json_or_error import rejection
from penstock.services.kafka import Record
from penstock.services.memory_kafka import MemoryKafka
from penstock.topics import dlq_topic, topic_specs

from ..memory import World, raw, topic, windowed

Mend = Callable[[Letter], Any]

SOURCE = topic(partitions=2)
SALES, RAW = windowed(SOURCE), raw(SOURCE)
GOOD = b'{"id":"a","at":1,"price":2}'


def mended(letter: Letter) -> dict[str, Any]:
    """Return a row that tells where it comes from."""
    return {"id": "b", "at": 5, "price": letter.offset}


class Shop(World):
    """`broken` appends a record to the source and, as the jobs would, to the dead-letter topics."""

    def __init__(self, root: Path, source: Topic = SOURCE) -> None:
        super().__init__(root)
        self.pipelines = [replace(it, source=source) for it in (SALES, RAW)]
        specs = [spec for it in self.pipelines for spec in topic_specs(it, self.settings.env)]
        for spec in {spec.name: spec for spec in specs}.values():
            self.kafka.create_topic(spec)

    def broken(self, value: bytes | None = b"{}", partition: int = 0, timestamp: int = 1_000, **more: Any) -> Place:
        source = self.pipelines[0].source
        offset = self.kafka.append(source.name, value, partition=partition, timestamp=timestamp, **more)
        about = {"topic": source.name, "partition": partition, "offset": offset, "timestamp": timestamp}
        headers = [(name, str(text).encode()) for name, text in about.items()]
        headers.append(("reason", (rejection(source, value) or "wrong type: as it was declared then").encode()))
        for pipeline in self.pipelines:
            self.kafka.append(dlq_topic(pipeline.name), value, headers=headers)
        return partition, offset

    def redrive(
        self, pipeline: Pipeline | None = None, fix: Callable[..., Any] | None = mended, **more: Any
    ) -> Redrive:
        function = Fix("fixes.py:mended", Path(__file__), fix) if fix else None
        chosen = pipeline or self.pipelines[0]
        request = Request(function, **more)
        return redrive(chosen, request, self.kafka, self.settings, timeout=0.2)

    def read(self, name: str) -> list[Record]:
        start, end = self.kafka.start_offsets(name), self.kafka.end_offsets(name, committed=True)
        return [record for batch in self.kafka.read(name, start, end) for record in batch]

    def sent(self) -> list[Record]:
        """Return the records that were sent back."""
        return [record for record in self.read(self.pipelines[0].source.name) if FROM in dict(record.headers)]

    def origins(self) -> list[str]:
        return sorted(dict(record.headers)[FROM].decode() for record in self.sent())

    def markers(self) -> dict[str, Any]:
        if TOPIC not in self.kafka.topics([TOPIC]):
            return {}
        return {(record.key or b"").decode(): json.loads(record.value or b"") for record in self.read(TOPIC)}


def dies(kafka: MemoryKafka, around: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Let the process die at a step of a transaction, as the fault says."""
    kafka.append = around("append", kafka.append)  # type: ignore[method-assign]
    kafka.end = around("end", kafka.end)  # type: ignore[method-assign]
