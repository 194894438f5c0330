"""The in-memory twin of `Kafka`, for tests: topics, partitions, transactions, and a broker that can be down."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from penstock.errors import DeclarationError, PenstockError, RefusedError, UnavailableError
from penstock.services.kafka import Record, TopicState
from penstock.services.kafka_write import Outgoing, Then, Writer, fenced
from penstock.topics import TopicSpec

if TYPE_CHECKING:
    import pyarrow


@dataclass
class _Partition:
    """`log` holds a Record, or None for a transaction's marker; a record's `state` is committed, open or aborted."""

    log: list[Record | None] = field(default_factory=list)
    state: list[str] = field(default_factory=list)
    start: int = 0

    @property
    def stable(self) -> int:
        return self.state.index("open") if "open" in self.state else len(self.log)


class MemoryKafka:
    """`down = True` makes every call raise UnavailableError; `calls` lists the changes that were asked for."""

    def __init__(self) -> None:
        self.down = False
        self.calls: list[tuple[str, str]] = []
        self._states: dict[str, TopicState] = {}
        self._logs: dict[str, dict[int, _Partition]] = {}
        self._groups: dict[tuple[str, str], dict[int, int]] = {}
        self._writers: dict[str, _Writer] = {}

    # What tests do to it.

    def append(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int = 0,
        timestamp: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
        transaction: bool = False,
    ) -> int:
        """Append a record and return its offset; with `transaction` it stays open until `end_transaction`."""
        part = self._log(topic)[partition]
        part.log.append(Record(partition, len(part.log), timestamp, key, value, headers))
        part.state.append("open" if transaction else "committed")
        return len(part.log) - 1

    def end_transaction(self, topic: str, *, commit: bool) -> None:
        """Commit or abort all that is open, leaving a marker that takes an offset."""
        for part in self._log(topic).values():
            if "open" in part.state:
                part.state = [("committed" if commit else "aborted") if it == "open" else it for it in part.state]
                part.log.append(None)
                part.state.append("committed")

    def expire(self, topic: str, partition: int, start: int) -> None:
        """Let retention remove everything before `start`."""
        self._log(topic)[partition].start = start

    def commit_group(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        self._groups.setdefault((group, topic), {}).update(offsets)

    # What Kafka does.

    def topics(self, names: Iterable[str]) -> dict[str, TopicState]:
        self._reach()
        return {name: self._states[name] for name in dict.fromkeys(names) if name in self._states}

    def create_topic(self, spec: TopicSpec) -> None:
        self._reach()
        if spec.name in self._states:
            raise RefusedError(f"topic {spec.name} exists already", hint="plan again: it was made since")
        self.calls.append(("create_topic", spec.name))
        self._states[spec.name] = TopicState(
            spec.name, spec.partitions, spec.replication, dict(sorted(spec.config.items()))
        )
        self._logs[spec.name] = {partition: _Partition() for partition in range(spec.partitions)}

    def alter_config(self, name: str, config: Mapping[str, str]) -> None:
        self._log(name)
        self.calls.append(("alter_config", name))
        state = self._states[name]
        self._states[name] = replace(state, config=dict(sorted({**state.config, **config}.items())))

    def add_partitions(self, name: str, total: int) -> None:
        log = self._log(name)
        if total <= len(log):
            raise PenstockError(f"growing topic {name} to {total} partitions: it has {len(log)}")
        self.calls.append(("add_partitions", name))
        log.update({partition: _Partition() for partition in range(len(log), total)})
        self._states[name] = replace(self._states[name], partitions=total)

    def delete_topic(self, name: str) -> None:
        self._log(name)
        self.calls.append(("delete_topic", name))
        del self._states[name], self._logs[name]

    def start_offsets(self, topic: str) -> dict[int, int]:
        return {number: part.start for number, part in self._log(topic).items()}

    def end_offsets(self, topic: str, *, committed: bool) -> dict[int, int]:
        return {number: part.stable if committed else len(part.log) for number, part in self._log(topic).items()}

    def offsets_for_time(self, topic: str, ms: int) -> dict[int, int]:
        return {
            number: next(
                (it.offset for it in part.log[part.start :] if it is not None and it.timestamp >= ms), len(part.log)
            )
            for number, part in self._log(topic).items()
        }

    def group_offsets(self, group: str, topic: str) -> dict[int, int]:
        self._log(topic)
        return dict(self._groups.get((group, topic), {}))

    def reset_group(self, group: str, topic: str) -> None:
        self._groups[(group, topic)] = self.start_offsets(topic)

    def read(
        self, topic: str, start: Mapping[int, int], end: Mapping[int, int], *, committed: bool = True
    ) -> Iterator[list[Record]]:
        log = self._log(topic)
        for number, stop in end.items():
            part, first = log[number], start.get(number, 0)
            if first >= stop:
                continue
            if first < part.start:
                raise PenstockError(f"{topic}, partition {number}: offset {first} is not in the log")
            if stop > (part.stable if committed else len(part.log)):
                raise UnavailableError(f"reading {topic}: nothing came; partition {number} of {stop}")
            found = [
                it
                for it, state in zip(part.log[first:stop], part.state[first:stop], strict=True)
                if it is not None and (state == "committed" or not committed)
            ]
            if found:
                yield found

    def read_arrow(
        self,
        topic: str,
        start: Mapping[int, int],
        end: Mapping[int, int],
        *,
        committed: bool = True,
        client_id: str | None = None,
    ) -> Iterator[pyarrow.RecordBatch]:
        import pyarrow as pa

        whole, bytes_ = pa.int64(), pa.binary()
        schema = pa.schema([("partition", pa.int32()), ("offset", whole), ("timestamp", whole), ("value", bytes_)])
        for batch in self.read(topic, start, end, committed=committed):
            rows = [record._asdict() for record in batch]
            yield pa.RecordBatch.from_pylist(rows, schema=schema)

    def transactional(self, transactional_id: str, *, max_message_bytes: int) -> Writer:
        self._reach()
        if before := self._writers.get(transactional_id):
            before.end(commit=False)
        self._writers[transactional_id] = _Writer(self, transactional_id)
        return self._writers[transactional_id]

    def end(self, places: Sequence[tuple[str, int, int]], *, commit: bool) -> None:
        """End the transaction of these records (topic, partition, offset), with a marker in each partition.

        Those that are not there, or are ended already, are left out: their writer died meanwhile.
        """
        open_ = [it for it in places if self._log(it[0])[it[1]].state[it[2] : it[2] + 1] == ["open"]]
        for topic, partition, offset in open_:
            self._log(topic)[partition].state[offset] = "committed" if commit else "aborted"
        for topic, partition in dict.fromkeys(place[:2] for place in open_):
            self._log(topic)[partition].log.append(None)
            self._log(topic)[partition].state.append("committed")

    def _reach(self) -> None:
        if self.down:
            raise UnavailableError("Kafka at memory can't be reached")

    def _log(self, topic: str) -> dict[int, _Partition]:
        self._reach()
        if topic not in self._logs:
            raise DeclarationError(f"there is no topic {topic} at memory", hint="`penstock apply` creates topics")
        return self._logs[topic]


class _Writer:
    """The twin of `KafkaWriter`; a process that dies, unlike one that fails, leaves its transaction open."""

    def __init__(self, kafka: MemoryKafka, transactional_id: str) -> None:
        self._kafka, self._id = kafka, transactional_id
        self._open: list[tuple[str, int, int]] = []

    def write(self, records: Sequence[Outgoing], then: Then) -> list[int]:
        try:
            offsets = self._send(records)
            self._send(then(offsets))
            self._check()
        except Exception:
            self.end(commit=False)
            raise
        self.end(commit=True)
        return offsets

    def close(self) -> None:
        pass

    def end(self, *, commit: bool) -> None:
        self._kafka.end(self._open, commit=commit)
        self._open = []

    def _send(self, records: Sequence[Outgoing]) -> list[int]:
        offsets = []
        for topic, partition, key, value, headers in records:
            self._check()
            self._open.append((topic, partition, self._kafka.end_offsets(topic, committed=False)[partition]))
            now = round(time.time() * 1000)
            more = {"key": key, "partition": partition, "timestamp": now, "headers": headers, "transaction": True}
            offsets.append(self._kafka.append(topic, value, **more))  # type: ignore[arg-type]
        return offsets

    def _check(self) -> None:
        if self._kafka._writers[self._id] is not self:
            raise fenced(self._id)
