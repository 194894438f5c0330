"""The main flow on the real stack, as a user runs it: declare, apply, produce, verify, stop, start, remove."""

from __future__ import annotations

import json

import pytest

from penstock.data.load import MALFORMED
from penstock.wait import Pending, until

from ..cli import Cli

pytestmark = pytest.mark.e2e


def test_a_plan_is_applied_once(shop: Cli) -> None:
    planned = json.loads(shop.run("plan", "--json"))
    assert planned["summary"]["create"] == 2 + 3 * 3 + 3 + 3  # registry, source, derived topics, supervisors, jobs
    assert "applied: " in shop.run("apply")
    assert "nothing to do: 17 resources as declared" in shop.run("apply")
    assert json.loads(shop.run("plan", "--json"))["summary"]["create"] == 0


def test_every_record_is_accounted_for(shop: Cli) -> None:
    """Late, broken and duplicate records, a hot key and an idle partition: each fate is counted, and all add up."""
    kinds = shop.produce(60_000, "--idle", "3", late=0.05, malformed=0.01, duplicate=0.02, hot_key=0.3, too_early=0.001)
    broken = sum(count for kind, count in kinds.items() if kind in MALFORMED)
    for ledger in shop.verify():
        assert ledger["equal"], ledger["differences"]
        assert ledger["read"] == sum(kinds.values())
        assert ledger["dead_lettered"] == broken
        assert ledger["too_early"] == kinds["too early"]
        assert ledger["rows_compared"] > 0
        if ledger["pipeline"] != "clicks_raw":
            assert ledger["late"] > 0
            assert ledger["windows_compared"] > 10


def test_the_vital_signs_agree_with_the_account(shop: Cli) -> None:
    [ledger] = shop.verify("clicks_tumble")
    found = json.loads(shop.run("status", "clicks_tumble", "--json"))
    job, records = found["job"], found["job"]["records"]
    assert (job["state"], records["dropped"], found["problems"]) == ("RUNNING", 0, {})
    assert records["read"] == ledger["read"]
    assert records["late"] == ledger["late"] + ledger["too_early"]
    assert records["dead_lettered"] == ledger["dead_lettered"]
    assert [item["lag"] for item in found["partitions"]] == [0, 0, 0, 0]
    assert [item["watermark"] is None for item in found["partitions"]] == [False, False, False, True]
    assert job["checkpoints"]["completed"] > 0
    assert found["served"]["rows"] > 0
    assert found["served"]["state"] == "RUNNING"

    def caught_up() -> bool | Pending:
        behind = json.loads(shop.run("status", "clicks_tumble", "--json"))["served"]["behind"]
        return behind == 0 or Pending(f"{behind} records not read yet")

    until("Druid's supervisor, which looks every 30 s", caught_up, timeout=120, interval=5)
    page = shop.run("status", "clicks_tumble")
    assert f"{records['dead_lettered']:,} dead-lettered" in page
    assert shop.call("status", "absent").returncode == 2


def test_dead_letters_keep_bytes_and_origin(shop: Cli) -> None:
    broken = {}
    for record in shop.read("web.clicked.v1"):
        broken[record.partition, record.offset] = record
    kinds = set()
    for letter in shop.read("penstock.clicks_raw.dlq"):
        headers = dict(letter.headers)
        origin = broken[int(headers["partition"]), int(headers["offset"])]
        assert letter.value == origin.value
        assert int(headers["timestamp"]) == origin.timestamp
        assert headers["topic"] == b"web.clicked.v1"
        kinds.add(headers["reason"].decode().partition(":")[0])
    assert kinds >= {
        "null value",
        "invalid UTF-8",
        "malformed JSON",
        "wrong type",
        "missing required field",
        "number out of range",
        "nested too deeply",
    }


def test_stop_and_start_resume_without_loss_or_repetition(shop: Cli) -> None:
    assert "savepoint" in shop.run("stop", "clicks_tumble")
    assert "nothing to do" in shop.run("apply")  # a job that was stopped by hand stays stopped
    shop.produce(20_000, late=0.05, malformed=0.01, seed=2, start="2024-01-01T00:10")
    shop.run("start", "clicks_tumble")
    for ledger in shop.verify():
        assert ledger["equal"], ledger["differences"]


def test_remove_keeps_data_unless_told(shop: Cli) -> None:
    shop.run("remove", "clicks_hop")
    rows = json.loads(shop.run("query", 'SELECT COUNT(*) AS n FROM "clicks_hop"', "--json"))
    assert rows[0]["n"] > 0
    shop.run("apply")
    for ledger in shop.verify("clicks_hop"):
        assert ledger["equal"], ledger["differences"]


def test_the_flights_are_equal(shop: Cli, flights: Cli) -> None:
    refused = flights.call("plan")
    assert refused.returncode == 3, "another project's pipelines are not dropped in passing"
    for name in ("clicks_tumble", "clicks_hop", "clicks_raw"):
        shop.run("remove", name, "--drop-datasource", "--delete-topics")
    flights.run("apply")
    flights.run("produce", "flights", "--limit", "20000")
    ledgers = {ledger["pipeline"]: ledger for ledger in flights.verify()}
    assert set(ledgers) == {"airport_delays", "carrier_daily", "flights_raw"}
    assert all(ledger["equal"] and ledger["rows_compared"] for ledger in ledgers.values()), ledgers
