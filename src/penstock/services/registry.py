"""What was applied: one compacted Kafka topic, `penstock.registry.v1`, read whole.

Key `<env>/<pipeline>`, value JSON.  An intent is written before it is carried out, so that whatever dies in between,
the next run knows what was under way.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from penstock.errors import PenstockError, UnavailableError
from penstock.newer import known
from penstock.settings import Environment, KafkaSettings
from penstock.topics import TopicSpec, registry_topic

#: What a record's `status` says of the job.
STATUSES = {
    "new": "topics and supervisor are being made; no job yet",
    "starting": "`job_id` is to run from `restore`, or from `startup` where that is null; not yet seen running",
    "running": "`job_id` was seen running",
    "stopping": "`penstock stop` was begun",
    "stopped": "stopped by `penstock stop`; `savepoint` resumes it",
    "removing": "`penstock remove` was begun",
    "removed": "taken away; topics, rows and `savepoint` that were kept let it come back without repeating rows",
}


@dataclass(frozen=True)
class Record:
    """One pipeline in one environment.  `supervisor` and `settings` are digests of what was last applied.

    `declared` is the declaration that the job was started from, `launch` where its generation began (see
    `penstock.generation`): with both, an older version can be started again when the file says something else.
    """

    pipeline: str
    status: str = "new"
    version: str = ""
    run: int = 0
    job_id: str = ""
    restore: str | None = None
    startup: str = "earliest-offset"
    savepoint: str | None = None
    settings: str = ""
    source: str = ""
    key: str | None = None
    partitions: int = 0
    supervisor: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)
    launch: Mapping[str, Any] = field(default_factory=dict)
    applied_at: str = ""
    applied_by: str = ""

    @property
    def to_run(self) -> bool:
        """True where its job is to run, whether or not it does at this moment."""
        return self.status in ("starting", "running")

    def but(self, **changes: Any) -> Record:
        """Return a copy with these fields changed."""
        return replace(self, **changes)


def signed(record: Record) -> Record:
    """Return the record with the time (UTC) and who wrote it."""
    by, at = signature()
    return record.but(applied_at=at, applied_by=by)


def signature() -> tuple[str, str]:
    """Return who runs this, as user@host, and the time (UTC)."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}", datetime.now(UTC).isoformat(timespec="seconds")


def to_bytes(record: Record) -> bytes:
    return json.dumps(asdict(record), sort_keys=True).encode()


def from_bytes(value: bytes) -> Record:
    """Read a record; fields of a newer Penstock are ignored.  Raises PenstockError for what is none."""
    try:
        return Record(**known(Record, json.loads(value)))
    except (ValueError, TypeError, AttributeError) as error:
        raise PenstockError(f"the registry holds a record that can't be read: {value[:100]!r}: {error}") from None


class Log(Protocol):
    """What the registry needs of Kafka."""

    def topics(self, names: Any) -> Mapping[str, Any]: ...
    def create_topic(self, spec: TopicSpec) -> None: ...
    def start_offsets(self, topic: str) -> dict[int, int]: ...
    def end_offsets(self, topic: str, *, committed: bool) -> dict[int, int]: ...
    def read(self, topic: str, start: dict[int, int], end: dict[int, int]) -> Any: ...


class Registry:
    """The registry of one environment; reading it never creates it."""

    def __init__(self, env: Environment, log: Log, produce: Callable[[str, bytes, bytes], None] | None = None) -> None:
        self._env = env
        self._log = log
        self._produce = produce or producer(env.kafka)
        self._topic = registry_topic(env).name

    def read(self) -> dict[str, Record]:
        """Return the newest record of every pipeline of this environment, by name; none where there is no registry."""
        if self._topic not in self._log.topics([self._topic]):
            return {}
        prefix = f"{self._env.name}/"
        records: dict[str, Record] = {}
        start, end = self._log.start_offsets(self._topic), self._log.end_offsets(self._topic, committed=True)
        for batch in self._log.read(self._topic, start, end):
            for item in batch:
                key = (item.key or b"").decode()
                if not key.startswith(prefix):
                    continue
                if item.value is None:
                    records.pop(key.removeprefix(prefix), None)
                else:
                    records[key.removeprefix(prefix)] = from_bytes(item.value)
        return records

    def write(self, record: Record) -> Record:
        """Write a record durably (acks=all) and return it, signed.  Creates the registry where there is none."""
        written = signed(record)
        self._send(record.pipeline, to_bytes(written))
        return written

    def _send(self, pipeline: str, value: bytes) -> None:
        if self._topic not in self._log.topics([self._topic]):
            self._log.create_topic(registry_topic(self._env))
        self._produce(self._topic, f"{self._env.name}/{pipeline}".encode(), value)


def producer(settings: KafkaSettings) -> Callable[[str, bytes, bytes], None]:
    """Return a function that sends one record and waits until all replicas have it (UnavailableError if not)."""

    def produce(topic: str, key: bytes, value: bytes) -> None:
        from confluent_kafka import KafkaException, Producer

        from penstock.services.kafka_client import HINT, client_properties, connect

        failures: list[str] = []
        options = {"acks": "all", "enable.idempotence": True, "linger.ms": 0, "message.timeout.ms": 15_000}
        client = connect(Producer, client_properties(settings) | options)
        try:
            told = lambda error, _: failures.append(error.str()) if error else None  # noqa: E731
            client.produce(topic, key=key, value=value, on_delivery=told)
            if client.flush(20):
                failures.append("no answer in 20 s")
        except KafkaException as error:
            failures.append(str(error))
        if failures:
            message = f"Kafka at {settings.bootstrap} did not take a record of {topic}: {failures[0]}"
            raise UnavailableError(message, hint=HINT)

    return produce
