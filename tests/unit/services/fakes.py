"""Stand-ins for librdkafka's messages and consumer."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import KafkaError, TopicPartition


@dataclass
class FakeMessage:
    at: tuple[int, int]
    body: bytes | None = b"v"
    code: int | None = None

    def error(self) -> KafkaError | None:
        return None if self.code is None else KafkaError(self.code)

    def partition(self) -> int:
        return self.at[0]

    def offset(self) -> int:
        return self.at[1]

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return self.body

    def timestamp(self) -> tuple[int, int]:
        return (1, 1000 + self.at[1])


def eof(partition: int, offset: int) -> FakeMessage:
    return FakeMessage((partition, offset), code=KafkaError._PARTITION_EOF)


class FakeConsumer:
    """Answers `consume` from a script of batches, then with nothing."""

    def __init__(self, *batches: list[FakeMessage]) -> None:
        self.batches = list(batches)
        self.paused: list[int] = []

    def consume(self, count: int, timeout: float) -> list[FakeMessage]:
        return self.batches.pop(0) if self.batches else []

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused += [item.partition for item in partitions]
