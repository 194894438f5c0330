"""What a test sends, and how it is told what differs."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from penstock.data.event import Event
from penstock.reconcile import Ledger
from penstock.settings import load_settings
from penstock.testing import Deployed, deployed

from ...conftest import ROOT
from ..memory import windowed

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MS = 1_767_268_800_000


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    events: list[Event] = []

    def produce(kafka: Any, topic: Any, given: Any) -> Any:
        events.extend(given)
        return type("Produced", (), {"count": len(events)})

    monkeypatch.setattr(deployed, "produce", produce)
    return events


@pytest.fixture
def made() -> Deployed:
    return Deployed(windowed(), load_settings(ROOT, environ={}), None)  # type: ignore[arg-type]


def test_events_are_json_with_the_key_and_millis(made: Deployed, sent: list[Event]) -> None:
    topic = made.pipeline.source
    assert topic.key is not None
    local = NOON.astimezone(timezone(timedelta(hours=5)))
    assert made.produce([{topic.event_time: local, topic.key: "k"}]) == 1
    (event,) = sent
    assert event.key == b"k"
    assert json.loads(event.value or b"") == {topic.event_time: MS, topic.key: "k"}


def test_broken_ones_go_as_they_are(made: Deployed, sent: list[Event]) -> None:
    made.produce([b"{", None])
    assert [event.value for event in sent] == [b"{", None]
    assert made.newest == []


def test_the_newest_event_is_waited_for_but_none_that_moves_no_watermark(made: Deployed, sent: list[Event]) -> None:
    at = made.pipeline.source.event_time
    made.produce([{at: MS}, {at: MS + 5}, {at: MS + 1}, {at: int(time.time() * 1000) + 10**10}, {at: "yesterday"}])
    assert made.newest == [MS + 5]


def test_a_time_without_a_zone_is_refused(made: Deployed, sent: list[Event]) -> None:
    with pytest.raises(ValueError, match="has no zone; for example"):
        made.produce([{made.pipeline.source.event_time: NOON.replace(tzinfo=None)}])


def test_what_differs_is_told(made: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger("sales", {0: 1}, None, 1, 0, 0, 0, 0, 0, 0, 0, [], ["a row is missing in Druid"])
    monkeypatch.setattr(deployed, "prove", lambda *words, **options: ledger)
    with pytest.raises(AssertionError, match=r"not equal\n(.|\n)*a row is missing in Druid"):
        made.verify()
    ledger.differences.clear()
    assert made.verify() is ledger
