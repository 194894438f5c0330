"""Repair on the real stack, and what two guards are for: naive replays that double and lose rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from penstock.errors import NotEqualError
from penstock.flink.spec import job_name
from penstock.pipeline import Pipeline
from penstock.replay import acts, publish
from penstock.replay.record import Replay
from penstock.replay.run import abandon, asked, prepare, refuse, run
from penstock.replay.scope import scope, utc
from penstock.segments import moment
from penstock.services.druid import Druid
from penstock.services.flink import Flink
from penstock.services.kafka_client import client_properties
from penstock.services.protocols import connect
from penstock.settings import load_settings
from penstock.topics import consumer_group
from penstock.wait import Pending, until

from ..cli import Cli
from .test_replay import Rows, _expected, _pipeline, _served, inside, make_room

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


@pytest.mark.native
def test_without_the_hand_off_the_range_is_counted_twice(lively: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = _pipeline(lively, "clicks_tumble")
    settings = load_settings(lively.project, environ=lively.environ)
    services = connect(settings)
    within = scope(pipeline, "2024-04-01T00:00", "2024-04-01T02:00")
    request = asked(within, dry_run=False, rate=None, reason="naive")
    made = prepare(pipeline, within, request, services, settings, id="naive")
    refuse(made)
    monkeypatch.setattr(publish, "hand_off", lambda work, replay: replay)
    monkeypatch.setattr(publish, "ask_hand_off", lambda work, replay: replay)
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
    words = ("--from", "2024-04-01T00:00", "--to", "2024-04-01T02:00", "--rate", "10000", "--json")
    receipt = json.loads(lively.run("replay", "clicks_tumble", *words))
    assert receipt["status"] == "done"
    assert receipt["seconds"]["compute"] > receipt["figures"]["read"] / 10_000 * 0.9
    computed = {start: count["events"] for start, count in receipt["figures"]["computed"].items()}
    assert {start: count["events"] for start, count in receipt["figures"]["after"].items()} == computed


def drop(lively: Cli, name: str, interval: str) -> None:
    """Mark segments of a datasource unused, as a person with the web console may, and wait until they are gone."""
    druid = lively.stack.env.druid
    url = f"{druid.coordinator}/druid/coordinator/v1/datasources/{name}/markUnused"
    httpx.post(url, json={"interval": interval}, trust_env=False).raise_for_status()
    first, last = (f"TIMESTAMP '{at.replace('T', ' ').rstrip('Z')}:00'" for at in interval.split("/"))
    query = f'SELECT COUNT(*) AS n FROM "{name}" WHERE __time >= {first} AND __time < {last}'

    def gone() -> bool | Pending:
        left = Druid(druid).sql(query)[0]["n"]
        return left == 0 or Pending(f"{left} rows")

    until(f"the segments of {name}", gone, timeout=120)


def _settled(lively: Cli, pipeline: Pipeline, waiting: set[int]) -> None:
    """Hold what Druid serves of closed windows, outside of segments that wait, against the oracle over all rows."""
    flink = Flink(lively.stack.env.flink)
    job = next(job for job in flink.jobs() if job.name == job_name(pipeline.name) and job.running)
    closed = (flink.watermark(job.id) or 0) + 1 - 60_000

    def of(rows: Rows) -> Rows:
        return {at: found for at, found in rows.items() if at <= closed and at - at % 3_600_000 not in waiting}

    expected = of(_expected(lively, pipeline))
    assert expected
    assert of(_served(lively, pipeline)) == expected


def test_a_repair_heals_every_late_event_of_closed_windows(lively: Cli) -> None:
    todo = json.loads(lively.run("repair", "clicks_hop", "--late-only", "--plan", "--json"))
    assert todo["late"] > todo["healed"]
    done = json.loads(lively.run("repair", "clicks_hop", "--late-only", "--json"))
    assert done["receipts"] and all(receipt["status"] == "done" for receipt in done["receipts"])
    assert done["healed"] + done["waiting"] == done["late"]
    waiting = {span["start"] for span in done["spans"] if span["state"] == "open"}
    assert all("they close at" in span["detail"] for span in done["spans"] if span["state"] == "open")
    _settled(lively, _pipeline(lively, "clicks_hop"), waiting)
    again = json.loads(lively.run("repair", "clicks_hop", "--late-only", "--json"))
    assert again["receipts"] == []


def test_what_verify_names_is_repaired(lively: Cli) -> None:
    """An hour that somebody dropped in Druid: verify names it, repair replays just that hour, verify closes."""
    pipeline = _pipeline(lively, "clicks_hop")
    hour = ("--from", "2024-04-01T00:00Z", "--to", "2024-04-01T01:00Z")
    before = _served(lively, pipeline)
    drop(lively, pipeline.name, "2024-04-01T00:00Z/2024-04-01T01:00Z")
    named = lively.call("verify", pipeline.name, *hour)
    assert named.returncode == 4
    assert "missing in Druid" in named.stdout
    done = json.loads(lively.run("repair", pipeline.name, *hour, "--json"))
    assert [(span["from"], span["to"], span["state"]) for span in done["spans"]] == [
        ("2024-04-01T00:00Z", "2024-04-01T01:00Z", "healed")
    ]
    assert done["spans"][0]["why"].startswith("Druid lacks ")
    assert _served(lively, pipeline) == before
    (ledger,) = lively.verify(pipeline.name)
    assert ledger["equal"], ledger["differences"]


def test_a_scheduler_is_told_what_is_due(lively: Cli) -> None:
    """The late events of the tumbling pipeline came after its last replay's cut, if at all: nothing is due."""
    told = {it["pipeline"]: it for it in json.loads(lively.run("repair", "--due", "--plan", "--json"))}
    assert set(told) == {"clicks_tumble", "clicks_hop", "clicks_raw"}
    assert all(it["policy"] == "nightly" for it in told.values())
    assert told["clicks_raw"]["why"] == "no late event to heal"
    assert not told["clicks_hop"]["due"], told["clicks_hop"]


@pytest.mark.native
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


def test_a_range_of_which_the_log_has_nothing_is_replaced_by_nothing(lively: Cli) -> None:
    lively.run("replay", "clicks_tumble", "--from", "2023-01-01T00:00", "--to", "2023-01-01T01:00", "--id", "empty")
    replays = json.loads(lively.run("replays", "clicks_tumble", "--json"))
    assert [it["status"] for it in replays if it["id"] == "empty"] == ["done"]
