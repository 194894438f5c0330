"""Changed logic on the real stack: past and present change in one stroke, and nothing is lost or counted twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.segments import moment
from penstock.testing.project import project
from penstock.topics import dlq_topic

from ..cli import ROOT, Cli
from .test_replay import Reader, Rows, _expected, _pipeline, _served, make_room

pytestmark = pytest.mark.e2e

START, SINCE, END = "2024-05-01T00:00Z", "2024-05-01T01:00Z", "2024-05-01T02:00Z"
JOBS = (ROOT / "tests/e2e/jobs/clicks.py").read_text(encoding="utf-8")
#: A mistake is found in the logic: some clicks are none; and a figure is missing.
CONDITION = ('"price": "SUM(price)"},\n    ),', '"price": "SUM(price)"},\n        where="ms > 100",\n    ),')
MEASURE = ('"price": "SUM(price)"},', '"price": "SUM(price)", "slowest": "MAX(ms)"},')


def changed(shop: Cli, folder: Path, *edits: tuple[str, str], more: str = "") -> Cli:
    """Return the project with its declarations edited, in a directory of its own: as on another machine."""
    text = JOBS
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    jobs = folder / "jobs-of"
    jobs.mkdir(parents=True)
    (jobs / "clicks.py").write_text(text + more, encoding="utf-8")
    return Cli(shop.stack, project(shop.stack, folder / "project", jobs).root, shop.topic)


@pytest.fixture(scope="module")
def lived(shop: Cli, flights: Cli) -> Cli:
    """Two hours and a half of clicks with every kind of fault, and what the tests before have left."""
    make_room(flights)
    shop.run("apply")
    shop.produce(30_000, late=0.05, malformed=0.01, too_early=0.001, seed=21, start=START, step=300)
    for ledger in shop.verify("clicks_tumble"):
        assert ledger["equal"], ledger["differences"]
    return shop


def between(rows: Rows, start: str, end: str) -> Rows:
    return {at: found for at, found in rows.items() if moment("", start) <= at < moment("", end)}


def events(rows: Rows) -> int:
    return sum(row[-1] for found in rows.values() for row in found)


def test_what_does_not_fit_the_state_is_refused_before_the_old_job_stops(lived: Cli, tmp_path: Path) -> None:
    refused = changed(lived, tmp_path, MEASURE).call("upgrade", "clicks_tumble")
    assert refused.returncode == 3, refused.stderr
    assert "nothing was stopped" in refused.stderr
    assert "aggCalls" in refused.stderr
    assert "--replay-from" in refused.stderr
    assert "nothing to do" in lived.run("apply")


def test_a_changed_condition_goes_on_from_a_savepoint(lived: Cli, tmp_path: Path) -> None:
    new = changed(lived, tmp_path, ("where=\"page <> 'x'\"", "where=\"page <> 'page-1'\""))
    before = _served(lived, _pipeline(lived, "clicks_hop"))
    assert "goes on where" in new.run("upgrade", "clicks_hop")
    assert "nothing to do" in new.run("upgrade", "clicks_hop")
    new.produce(2_000, seed=22, start="2024-05-01T04:00", step=300)
    new.produce(100, seed=23, start="2024-05-01T06:00", step=300)
    # What came before is as the old version has it; the windows after it hold no such page.
    (ledger,) = json.loads(
        new.run("verify", "clicks_hop", "--from", "2024-05-01T04:00", "--to", "2024-05-01T05:00", "--json")
    )
    assert ledger["equal"] and ledger["filtered"] > 0 and ledger["rows_compared"] > 0
    served = _served(lived, _pipeline(lived, "clicks_hop"))
    assert all(served[at] == rows for at, rows in before.items() if at < moment("", END))
    lived.run("upgrade", "clicks_hop")


def test_the_past_and_the_present_change_in_one_stroke(lived: Cli, tmp_path: Path) -> None:
    new = changed(lived, tmp_path, CONDITION, MEASURE)
    old, made = _pipeline(lived, "clicks_tumble"), _pipeline(new, "clicks_tumble")
    words = ("upgrade", "clicks_tumble", "--replay-from", SINCE, "--allow", "unhealed", "--json")
    refused = new.call(*words[:4])
    assert (refused.returncode, "are not healed" in refused.stderr) == (3, True), "late ones of the first hour"
    dry = json.loads(new.run(*words, "--dry-run"))
    assert dry["status"] == "dry"
    sums = dry["figures"]["sums"]
    # Fewer by the condition, more by the late ones: another sum.
    assert 0 < sums["price"]["computed"] != sums["price"]["before"] > 0
    assert sums["slowest"]["before"] is None and sums["slowest"]["computed"] > 0, "a figure that was missing"
    before, reader = _served(lived, old), Reader(lived, "clicks_tumble")
    with reader.looking():
        receipt = json.loads(new.run(*words, "--reason", "some clicks are none"))
    assert (receipt["status"], receipt["generation"]) == ("done", 1)
    end = receipt["asked"]["wide_end"]
    assert end >= moment("", END), "up to the segment that is open"

    assert reader.failures == []
    hours = {moment("", hour): seen for hour, seen in reader.seen.items()}
    assert all(seen and None not in seen for seen in hours.values())
    totals = {at: events({t: r for t, r in before.items() if at <= t < at + 3_600_000}) for at in hours}
    after = _served(new, made)
    for at, seen in hours.items():
        now = events({t: r for t, r in after.items() if at <= t < at + 3_600_000})
        assert seen[0] == totals[at] and set(seen) <= {totals[at], now}, "old or new, and nothing between"
        assert at >= moment("", SINCE) or len(seen) == 1, "what lies before the range stays"

    broken = [dict(it.headers) for it in new.read(dlq_topic("clicks_tumble.1"))]
    assert len(broken) == len({(it["partition"], it["offset"]) for it in broken})
    assert len(broken) == len(list(lived.read(dlq_topic("clicks_raw")))), "the new generation has all dead letters"
    expected = _expected(new, made)
    past = {at: rows for at, rows in expected.items() if moment("", SINCE) <= at < end}
    assert {at: rows for at, rows in after.items() if moment("", SINCE) <= at < end} == past
    assert events(past) == sum(count["events"] for count in dry["figures"]["computed"].values())

    new.produce(3_000, late=0.1, malformed=0.01, seed=24, start="2024-05-01T08:00", step=300)
    new.produce(100, seed=25, start="2024-05-01T10:00", step=300)
    (ledger,) = new.verify("clicks_tumble")
    assert ledger["equal"], ledger["differences"]
    assert ledger["windows_compared"] > 0
    assert "nothing to do" in new.run(*words[:4])
    assert new.call("plan").returncode == 0


def test_what_is_late_in_the_new_generation_is_repaired(lived: Cli, tmp_path: Path) -> None:
    new = changed(lived, tmp_path, CONDITION, MEASURE)
    done = json.loads(new.run("repair", "clicks_tumble", "--late-only", "--from", "2024-05-01T05:00", "--json"))
    assert any(span["state"] == "healed" for span in done["spans"]), done
    (ledger,) = new.verify("clicks_tumble")
    assert ledger["equal"], ledger["differences"]
    assert sum(segment["healed"] for segment in ledger["segments"]) > 0


def test_a_new_pipeline_begins_with_its_past(lived: Cli, tmp_path: Path) -> None:
    more = (
        'daily = Pipeline(\n    "clicks_by_user",\n    clicks,\n'
        '    Aggregate(window=Tumble("1 min"), by=["user"], measures={"clicks": "COUNT(*)"}),\n'
        '    Datasource(dimensions=["user"], segment="hour"),\n)\n'
    )
    new = changed(lived, tmp_path, CONDITION, MEASURE, more=more)
    told = new.run("apply", "--replay-from", START)
    assert "clicks_by_user: published and checked" in told
    made = _pipeline(new, "clicks_by_user")
    kept = between(_expected(new, made), START, "2024-05-01T03:00Z")
    assert between(_served(new, made), START, "2024-05-01T03:00Z") == kept
    (ledger,) = new.verify("clicks_by_user")
    assert ledger["equal"], ledger["differences"]
    assert "nothing to do" in new.run("apply")
    plan: dict[str, Any] = json.loads(new.run("plan", "--json"))
    assert plan["summary"]["create"] == 0


def test_what_another_version_took_in_is_computed_anew(lived: Cli) -> None:
    """An upgrade in place leaves what came before it, and what was open then, as the version before took it in."""
    (ledger,) = lived.verify("clicks_hop")
    assert not ledger["equal"], "an hour was counted by another condition"
    # From an hour before: its last windows reach into what was counted otherwise.
    lived.run("replay", "clicks_hop", "--from", "2024-05-01T03:00", "--to", "2024-05-01T07:00")
    (ledger,) = lived.verify("clicks_hop")
    assert ledger["equal"], ledger["differences"]
