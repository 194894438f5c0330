"""Repair on the real stack, and what two guards are for: naive replays that double and lose rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import pytest
from confluent_kafka import Consumer, TopicPartition

from penstock.errors import NotEqualError
from penstock.flink.spec import job_name
from penstock.replay import acts, publish
from penstock.replay.record import Replay
from penstock.replay.run import abandon, asked, prepare, refuse, run
from penstock.replay.scope import scope, utc
from penstock.segments import moment
from penstock.services.flink import Flink
from penstock.services.kafka_client import client_properties
from penstock.services.protocols import connect
from penstock.settings import load_settings
from penstock.topics import consumer_group
from penstock.wait import Pending, until

from ..cli import Cli
from .test_replay import _expected, _pipeline, _served, inside, make_room

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


def test_a_cut_at_the_groups_offsets_loses_what_was_counted_live(lively: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flink commits a group's offsets without awaiting the answer or trying again: the group may lag behind the job.

    Here it does: a commit of before is repeated after the newest, as a late one would come.  The naive cut then holds
    fewer rows than the windows that have fired, and its own verification can't know: it compares with its own records.
    """
    name = "clicks_tumble"
    pipeline, settings = _pipeline(lively, name), load_settings(lively.project, environ=lively.environ)
    services, topic = connect(settings), pipeline.source.name
    group = consumer_group(settings.env.name, name)
    lively.produce(7_500, seed=21, start="2024-04-02T00:00", step=240)
    (ledger,) = lively.verify(name)
    assert ledger["equal"], ledger["differences"]
    lagging = services.kafka.group_offsets(group, topic)
    assert lagging == services.kafka.end_offsets(topic, committed=True), "the job has committed all that was sent"
    lively.produce(30_000, seed=22, start="2024-04-02T00:30", step=240)
    (ledger,) = lively.verify(name)
    assert ledger["equal"], ledger["differences"]
    within = scope(pipeline, "2024-04-02T00:00", "2024-04-02T01:00")
    before = inside(_served(lively, pipeline), within)
    proper = acts.cut_log

    def naive(work: acts.Work, replay: Replay) -> Replay:
        cut = proper(work, replay).cut
        assert cut is not None
        return replay.but(cut=replace(cut, high=_of_a_lagging_group(work, group, lagging)))

    monkeypatch.setattr(acts, "cut_log", naive)
    request = asked(within, dry_run=False, rate=None, reason="naive")
    made = prepare(pipeline, within, request, services, settings, id="naive-cut")
    refuse(made)
    assert run(pipeline, made.replay, services, settings).status == "done", "it notices nothing"
    after = inside(_served(lively, pipeline), within)
    assert after == inside(_expected(lively, pipeline, lagging), within)
    half = moment("", "2024-04-02T00:30")
    assert [at for at in before if at >= half] and not [at for at in after if at >= half], "half an hour is lost"
    (ledger,) = lively.verify(name)
    assert not ledger["equal"] and "Druid" in str(ledger["differences"])
    monkeypatch.undo()
    lively.run("replay", name, "--from", utc(within.start), "--to", utc(within.end))
    assert inside(_served(lively, pipeline), within) == inside(_expected(lively, pipeline), within)
    (ledger,) = lively.verify(name)
    assert ledger["equal"], ledger["differences"]


def _of_a_lagging_group(work: acts.Work, group: str, offsets: Mapping[int, int]) -> dict[int, int]:
    """Repeat an earlier commit of the group, and return what it has committed: before the job commits again."""
    topic = work.pipeline.source.name
    consumer = Consumer({**client_properties(work.settings.env.kafka), "group.id": group, "enable.auto.commit": False})
    try:

        def lags() -> dict[int, int] | Pending:
            late = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
            consumer.commit(offsets=late, asynchronous=False)
            found = work.services.kafka.group_offsets(group, topic)
            return found if found == offsets else Pending("the job has committed again")

        return until(f"group {group}", lags, timeout=30, interval=0.05)
    finally:
        consumer.close()
