"""The log is read to verify by while the job computes: once, and by nobody that does not need it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.errors import PenstockError, UnavailableError
from penstock.replay import read_ahead
from penstock.replay.derive import batch_job_id

from .world import Life, lived


class Reads:
    """Notes in which thread the log is read to verify by; the first reads may fail."""

    def __init__(self, life: Life, monkeypatch: pytest.MonkeyPatch, failing: int = 0) -> None:
        self.by: list[str] = []
        read = life.kafka.read_arrow

        def noted(topic: str, *words: Any, **options: Any) -> Iterator[Any]:
            if options.get("client_id") is None:  # Flink's own, in memory
                return read(topic, *words, **options)
            self.by.append(threading.current_thread().name.partition("-")[0])
            if len(self.by) <= failing:
                raise UnavailableError("the broker is away")
            return read(topic, *words, **options)

        monkeypatch.setattr(life.kafka, "read_arrow", noted)

    @property
    def ahead(self) -> list[bool]:
        return [name == "read ahead" for name in self.by]


def test_it_is_read_once_and_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = lived(tmp_path)
    reads = Reads(life, monkeypatch)
    assert life.replay().status == "done"
    assert reads.ahead == [True]


def test_what_could_not_be_read_ahead_is_read_when_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = lived(tmp_path)
    reads = Reads(life, monkeypatch, failing=1)
    assert life.replay().status == "done"
    assert reads.ahead == [True, False]


def test_where_the_brokers_are_to_be_spared_it_is_read_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = lived(tmp_path)
    reads = Reads(life, monkeypatch)
    assert life.replay(rate=1_000_000.0).status == "done"
    assert reads.ahead == [False]


def test_steps_that_are_run_one_by_one_read_nothing_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = lived(tmp_path)
    reads = Reads(life, monkeypatch)
    life.replay(through="compute")
    assert reads.by == []
    assert life.replay().status == "done"
    assert reads.ahead == [False]


def test_a_reader_ends_with_the_replay_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = lived(tmp_path)
    stopped: list[read_ahead.Ahead] = []
    stop = read_ahead.Ahead.stop

    def noted(reader: read_ahead.Ahead) -> None:
        stopped.append(reader)
        stop(reader)

    job = life.flink.job

    def fail(job_id: str) -> Any:
        if job_id == batch_job_id(life.settings.env.name, "r1", 1):
            raise PenstockError("a bug in Flink")
        return job(job_id)

    monkeypatch.setattr(read_ahead.Ahead, "stop", noted)
    monkeypatch.setattr(life.flink, "job", fail)
    with pytest.raises(PenstockError, match="a bug in Flink"):
        life.replay()
    (reader,) = stopped
    assert not reader._thread.is_alive()
