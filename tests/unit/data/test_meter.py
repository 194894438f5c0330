"""Progress: plain lines where there is no terminal."""

from __future__ import annotations

import io

import pytest

from penstock.data import meter as module
from penstock.data.meter import meter


def test_plain_lines_are_few_and_say_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    out = io.StringIO()
    with meter("flights", 1_000, file=out) as show:
        for done in range(100, 1_001, 100):
            now += 2
            show.update(done, "waiting for Kafka" if done == 500 else "")
        show.update(1_000)
    assert out.getvalue().splitlines() == [
        "flights: 300 of 1,000 rows, 50 rows/s, 14 s left",
        "flights: 500 of 1,000 rows, 50 rows/s, 10 s left; waiting for Kafka",
        "flights: 600 of 1,000 rows, 50 rows/s, 8 s left",
        "flights: 900 of 1,000 rows, 50 rows/s, 2 s left",
        "flights: 1,000 of 1,000 rows, 50 rows/s",
    ]


def test_an_unknown_total() -> None:
    out = io.StringIO()
    with meter("clicks", None, file=out) as show:
        show.update(5, "waiting")
    assert out.getvalue().startswith("clicks: 5 rows, ")
