"""A pipeline on a stack, as a test sees it: events go in, figures come out, and all of it is accounted for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from typing import TYPE_CHECKING, Any

from penstock.data.event import Event, record_key
from penstock.data.produce import produce
from penstock.durations import millis
from penstock.flink.spec import job_name
from penstock.generation import stream
from penstock.pipeline import Aggregate, Pipeline
from penstock.proof import prove, render
from penstock.reconcile import Ledger
from penstock.replay.scope import utc
from penstock.services.kafka import Record
from penstock.settings import Settings
from penstock.topics import dlq_topic, late_topic
from penstock.wait import Pending, until

if TYPE_CHECKING:
    from penstock.services.protocols import Services


#: Columns of the accounting, which no declaration names.
HIDDEN = {"_rows", "_partition", "_offset", "window_end"}


@dataclass(frozen=True)
class Deployed:
    """A pipeline that was applied.  `timeout` is the seconds for each wait, `newest` the latest event time sent."""

    pipeline: Pipeline
    settings: Settings
    services: Services
    timeout: float = 120
    newest: list[int] = field(default_factory=list)

    def produce(self, events: Iterable[Mapping[str, Any] | bytes | None]) -> int:
        """Send events to the source topic, in this order, and return how many; each is acknowledged by then.

        An event is a mapping of the declared fields, sent as JSON and keyed by the topic's key; bytes, or None, are
        sent as they are: a broken record.  A field of type `timestamp_ms` may be a datetime with its zone.
        """
        return produce(self.settings.env.kafka, self.pipeline.source, map(self._event, events)).count

    def _event(self, event: Mapping[str, Any] | bytes | None) -> Event:
        if event is None or isinstance(event, bytes):
            return Event(None, event, 0)
        topic = self.pipeline.source
        plain = {name: _millis(name, value) for name, value in event.items()}
        at, key = plain.get(topic.event_time), topic.key
        # One dated too early never moves the watermark.
        if isinstance(at, int) and at <= time.time() * 1000 + millis(topic.too_early):
            self.newest[:] = [max([at, *self.newest])]
        return Event(None if key is None else record_key(plain.get(key)), json.dumps(plain).encode(), 0)

    def verify(self, start: str | None = None, end: str | None = None) -> Ledger:
        """Wait until all that was sent is worked off, every window that it closes has fired and is served, and return
        the account of it.

        Raises AssertionError, with the account and each difference, where the figures are not equal.
        """
        self._fired()
        ledger = prove(self.pipeline, self.settings, start=start, end=end, timeout=self.timeout)
        assert ledger.equal, f"{self.pipeline.name}: not equal\n{_text(ledger)}"
        return ledger

    def _fired(self) -> None:
        """Wait for the watermark of the latest event: partitions without it hold it back until they are idle."""
        if not self.newest or not isinstance(self.pipeline.transform, Aggregate):
            return
        wanted = self.newest[0] - millis(self.pipeline.source.out_of_orderness) - 1
        flink, name = self.services.flink, job_name(self._stream)

        def reached() -> bool | Pending:
            job = next((job for job in flink.jobs() if job.name == name and job.running), None)
            watermark = flink.watermark(job.id) if job else None
            return (watermark is not None and watermark >= wanted) or Pending(f"at {utc(watermark)} of {utc(wanted)}")

        until(f"the watermark of {self.pipeline.name}", reached, timeout=self.timeout, interval=0.25)

    def rows(self) -> list[dict[str, Any]]:
        """Return what Druid serves, once it is proved equal to the log: `__time` (a datetime), dimensions, measures.

        In order of time and dimensions.  A window that is still open has no row: let a later event close it, one that
        comes more than the topic's out-of-orderness after its end.
        """
        self.verify()
        found = self.sql(f'SELECT * FROM "{self.pipeline.name}"')
        order = ["__time", *self.pipeline.sink.dimensions]
        # Here: Druid orders a scan by time alone.
        found.sort(key=lambda row: [str(row[name]) for name in order])
        return [
            {name: _moment(value) if name == "__time" else value for name, value in row.items() if name not in HIDDEN}
            for row in found
        ]

    def sql(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return what Druid answers to a query, `%(name)s` filled by parameters, as it is now."""
        return self.services.druid.sql(query, parameters or None)

    def late(self) -> list[Record]:
        """Return what came too late for its window, or dated too early, as it was sent."""
        return list(self._read(late_topic(self._stream)))

    def dead_letters(self) -> list[Record]:
        """Return what could not be read: its bytes, and in the headers where it was and why."""
        return list(self._read(dlq_topic(self._stream)))

    @property
    def _stream(self) -> str:
        return stream(self.pipeline.name, self.services.registry.read().get(self.pipeline.name))

    def _read(self, topic: str) -> Iterator[Record]:
        self.verify()
        kafka = self.services.kafka
        for batch in kafka.read(topic, kafka.start_offsets(topic), kafka.end_offsets(topic, committed=True)):
            yield from batch


def _millis(name: str, value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    if value.tzinfo is None:
        raise ValueError(f"{name}: {value.isoformat()} has no zone; for example {value.replace(tzinfo=UTC)!r}")
    return round(value.timestamp() * 1000)


def _moment(value: str) -> datetime:
    return datetime.fromisoformat(value.replace("Z", "+00:00"))


def _text(ledger: Ledger) -> str:
    from rich.console import Console

    console = Console(file=StringIO(), width=160)
    console.print(render(ledger))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()
