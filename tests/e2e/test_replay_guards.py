"""Repair on the real stack, and what the hand-off is for: without it Druid counts the range twice."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from penstock.errors import NotEqualError
from penstock.flink.spec import job_name
from penstock.replay import publish
from penstock.replay.run import abandon, asked, prepare, refuse, run
from penstock.replay.scope import scope
from penstock.services.flink import Flink
from penstock.services.protocols import connect
from penstock.settings import load_settings
from penstock.wait import Pending, until

from ..cli import Cli
from .test_replay import _expected, _pipeline, _served, make_room

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def lively(shop: Cli, flights: Cli) -> Cli:
    """A day of its own: two hours of clicks, a part of them late, and later ones that close the windows."""
    make_room(flights)
    shop.run("apply")
    shop.produce(30_000, late=0.05, seed=11, start="2024-04-01T00:00", step=240)
    shop.produce(2_000, seed=12, start="2024-04-01T03:00", step=20)
    for ledger in shop.verify("clicks_hop", "clicks_tumble"):
        assert ledger["equal"], ledger["differences"]
    return shop


def test_without_the_hand_off_the_range_is_counted_twice(lively: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = _pipeline(lively, "clicks_tumble")
    settings = load_settings(lively.project, environ=lively.environ)
    services = connect(settings)
    within = scope(pipeline, "2024-04-01T00:00", "2024-04-01T02:00")
    request = asked(within, dry_run=False, rate=None, reason="naive")
    made = prepare(pipeline, within, request, services, settings, id="naive")
    refuse(made)
    monkeypatch.setattr(publish, "hand_off", lambda work, replay: replay)
    monkeypatch.setattr(publish, "ask_hand_off", lambda work, replay: None)
    with suppress(NotEqualError):  # told at once, or, where the task's rows join the new segments after the check, not
        run(pipeline, made.replay, services, settings, timeout=15)
    naive = services.replays.read()["naive"]
    before = sum(count.events for count in naive.figures.before.values())
    computed = sum(count.events for count in naive.figures.computed.values())
    services.druid.hand_off(pipeline.name, [0])  # what the task does by itself in time: it publishes what it holds

    def twice() -> bool | Pending:
        totals = services.druid.totals(pipeline.name, within.start, within.end, "hour")
        events = sum(events for _, events in totals.values())
        return events == before + computed or Pending(f"{events:,} events: {before:,} before, {computed:,} computed")

    until("the range counted twice", twice, timeout=120)
    if naive.status == "running":
        abandon(pipeline, naive, services, settings)


def test_a_rate_is_kept_and_a_proper_replay_puts_it_right(lively: Cli) -> None:
    words = ("--from", "2024-04-01T00:00", "--to", "2024-04-01T02:00", "--rate", "3000", "--json")
    receipt = json.loads(lively.run("replay", "clicks_tumble", *words))
    assert receipt["status"] == "done"
    assert receipt["seconds"]["compute"] > receipt["figures"]["read"] / 3000 * 0.9
    computed = {start: count["events"] for start, count in receipt["figures"]["computed"].items()}
    assert {start: count["events"] for start, count in receipt["figures"]["after"].items()} == computed


def test_a_repair_heals_every_late_event_of_closed_windows(lively: Cli) -> None:
    pipeline = _pipeline(lively, "clicks_hop")
    todo = json.loads(lively.run("repair", "clicks_hop", "--plan", "--json"))
    assert todo["late"] > todo["healed"]
    done = json.loads(lively.run("repair", "clicks_hop", "--json"))
    assert done["receipts"] and all(receipt["status"] == "done" for receipt in done["receipts"])
    flink = Flink(lively.stack.env.flink)
    job = next(job for job in flink.jobs() if job.name == job_name("clicks_hop") and job.running)
    watermark = flink.watermark(job.id) or 0
    closed = watermark + 1 - 60_000
    expected = {at: rows for at, rows in _expected(lively, pipeline).items() if at <= closed}
    served = {at: rows for at, rows in _served(lively, pipeline).items() if at <= closed}
    open_segments = {span["start"] for span in done["spans"] if span["open"]}
    for at, rows in expected.items():
        if at - at % 3_600_000 not in open_segments:
            assert served.get(at) == rows, at
    again = json.loads(lively.run("repair", "clicks_hop", "--json"))
    assert again["receipts"] == []
