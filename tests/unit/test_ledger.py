"""The ledger's way to its tables, over Kafka in memory: what it waits for, what it reads, what it must not believe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock import Aggregate, Datasource, Field, Pipeline, Topic, Tumble
from penstock.errors import NoDatasourceError, WaitTimeoutError
from penstock.ledger import verify
from penstock.reconcile import Ledger
from penstock.services.memory_kafka import MemoryKafka
from penstock.settings import Settings, load_settings
from penstock.topics import consumer_group, dlq_topic, out_topic, topic_specs

MINUTE = 60_000
SOURCE = Topic(
    "shop.sold.v1",
    fields=[Field("id", "string"), Field("at", "timestamp_ms")],
    event_time="at",
    too_early="1 h",
    partitions=1,
)
PIPELINE = Pipeline(
    "sales",
    SOURCE,
    Aggregate(window=Tumble("1 min"), by=["id"], measures={"sold": "COUNT(*)"}),
    Datasource(dimensions=["id"], segment="hour"),
)


class Run:
    """A pipeline's topics, filled by hand, and what Druid answers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kafka = MemoryKafka()
        self.served: list[dict[str, Any]] | None = None
        self.group = consumer_group(settings.env.name, PIPELINE.name)
        for spec in topic_specs(PIPELINE, settings.env):
            self.kafka.create_topic(spec)

    def event(self, name: str, at: int, timestamp: int, **more: Any) -> None:
        value = json.dumps({"id": name, "at": at}).encode()
        self.kafka.append(SOURCE.name, value, timestamp=timestamp, **more)

    def result(self, start: int, name: str, sold: int) -> None:
        row = {"window_start": start, "window_end": start + MINUTE, "id": name, "sold": sold, "_rows": sold}
        self.kafka.append(out_topic(PIPELINE.name), json.dumps(row).encode(), timestamp=0)
        self.served = [*(self.served or []), row]

    def read(self, offset: int) -> None:
        """Commit, as the job does with a checkpoint, that it has read up to this offset."""
        self.kafka.commit_group(self.group, SOURCE.name, {0: offset})

    def druid(self, query: str) -> list[dict[str, Any]]:
        if self.served is None:
            raise NoDatasourceError("Druid has no such datasource (yet)")
        return [{"n": sum(row["_rows"] for row in self.served)}] if "AS n" in query else self.served

    def verify(self, **bounds: Any) -> Ledger:
        return verify(
            PIPELINE,
            self.settings,
            log=self.kafka,
            druid=self.druid,
            watermark=lambda: 60 * MINUTE - 1,
            timeout=0.2,
            **bounds,
        )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "penstock.toml").touch()
    return Run(load_settings(tmp_path, environ={}))


def test_a_good_run_is_equal(run: Run) -> None:
    run.event("a", 5_000, 5_000)
    run.result(0, "a", 1)
    run.read(1)
    ledger = run.verify()
    assert ledger.equal, ledger.differences
    assert (ledger.read, ledger.rows_compared) == (1, 1)


def test_what_the_job_has_not_read_is_waited_for(run: Run) -> None:
    run.event("a", 5_000, 5_000)
    with pytest.raises(WaitTimeoutError, match="1 records behind the log"):
        run.verify()


def test_behind_the_last_record_only_a_transaction_s_marker_may_follow(run: Run) -> None:
    run.event("a", 5_000, 5_000, transaction=True)
    run.kafka.end_transaction(SOURCE.name, commit=True)
    run.result(0, "a", 1)
    run.read(1)
    assert run.kafka.end_offsets(SOURCE.name, committed=True) == {0: 2}
    assert run.verify().equal


def test_records_that_expired_unread_are_not_waited_for(run: Run) -> None:
    run.event("a", 5_000, 5_000)
    run.kafka.expire(SOURCE.name, 0, 1)
    assert run.verify().equal


def test_an_event_dated_ahead_of_its_record_is_in_the_range_it_is_dated_in(run: Run) -> None:
    hour = 60 * MINUTE
    run.event("a", hour + 1_000, hour - 1_000)
    run.result(hour, "a", 1)
    run.result(hour + MINUTE, "z", 0)  # shows that the window before it has fired
    run.served = run.served[:1] if run.served else None
    run.read(1)
    ledger = run.verify(start=hour, end=2 * hour)
    assert ledger.read == 1, ledger


def test_redriven_dead_letters_are_told_and_count_as_the_records_that_they_became(run: Run) -> None:
    """The broken record stays a dead letter; what was sent back for it is one more record, counted like any other."""
    for offset in range(2):
        run.kafka.append(SOURCE.name, b"{}", timestamp=5_000)
        about = {"topic": SOURCE.name, "partition": 0, "offset": offset, "timestamp": 5_000, "reason": "missing: 'id'"}
        headers = [(name, str(value).encode()) for name, value in about.items()]
        run.kafka.append(dlq_topic(PIPELINE.name), b"{}", headers=headers)
    run.event("a", 5_000, 9_000, headers=[("penstock-redriven-from", b"shop.sold.v1/0/0")], transaction=True)
    run.kafka.end_transaction(SOURCE.name, commit=True)
    run.result(0, "a", 1)
    run.read(3)
    ledger = run.verify(redriven=[(0, 0, 5_000), (0, 1, 4_000), (0, 7, 5_000)])
    assert ledger.equal, ledger.differences
    assert (ledger.read, ledger.dead_lettered, ledger.on_time) == (3, 2, 1)
    assert ledger.notes == ["1 of 2 dead letters were redriven: they are in the log anew"]
    assert run.verify().notes == []


def test_rows_that_only_druid_has_are_named(run: Run) -> None:
    run.served = [{"window_start": 0, "window_end": MINUTE, "id": "a", "sold": 1, "_rows": 1}]
    assert any("not in the log" in line for line in run.verify().differences)


def test_an_empty_pipeline_has_nothing_to_compare(run: Run) -> None:
    from penstock.proof import summary

    ledger = run.verify()
    assert ledger.equal
    assert "nothing to compare yet" in summary(ledger)
