"""How the log is read to be verified: ahead of the work, and no faster than allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest

from penstock.errors import UnavailableError
from penstock.replay.verify import ahead, paced


def _chunks(count: int, rows: int = 1) -> Iterator[pa.Table]:
    for number in range(count):
        yield pa.table({"n": [number] * rows})


def test_every_chunk_comes_once_and_in_order() -> None:
    for count in (0, 1, 5):
        assert [chunk["n"][0].as_py() for chunk in ahead(_chunks(count))] == list(range(count))


def test_the_next_chunk_is_read_while_one_is_worked_on() -> None:
    read: list[int] = []

    def noted() -> Iterator[pa.Table]:
        for number, chunk in enumerate(_chunks(3)):
            read.append(number)
            yield chunk

    coming = ahead(noted())
    next(coming)
    deadline = time.monotonic() + 10
    while read != [0, 1] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert read == [0, 1], "one ahead, and not the whole log in memory"


def test_a_reader_ends_with_who_reads() -> None:
    coming = ahead(_chunks(1000))
    next(coming)
    assert [one for one in threading.enumerate() if one.name == "read the log"]
    coming.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while any(one.name == "read the log" for one in threading.enumerate()):
        assert time.monotonic() < deadline, "it reads on"
        time.sleep(0.01)


def test_a_log_that_ends_in_a_failure_says_so() -> None:
    def broken() -> Iterator[pa.Table]:
        yield from _chunks(2)
        raise UnavailableError("the broker is away")

    coming = ahead(broken())
    assert [next(coming)["n"][0].as_py() for _ in range(2)] == [0, 1]
    with pytest.raises(UnavailableError, match="away"):
        next(coming)


def test_a_rate_holds_back_what_comes_after(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    assert len(list(paced(_chunks(3, rows=500), 1_000))) == 3
    assert slept == pytest.approx([0.5, 0.5, 0.5])
    slept.clear()
    assert len(list(paced(_chunks(3, rows=500), None))) == 3
    assert not slept
