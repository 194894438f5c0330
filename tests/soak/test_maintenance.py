"""Maintenance on the real Druid: fewer segments and the same rows, retention, and only rubbish is deleted."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.services.druid import Druid
from penstock.services.flink import local
from penstock.settings import Settings
from penstock.wait import Pending, until

from ..cli import ROOT
from .test_replay_ranges import Sender
from .visits import PIPELINE, Stage, make

pytestmark = [pytest.mark.e2e, pytest.mark.native]

#: What was final before the live events: they close the last windows of the hour after it.
PAST = f"FROM \"{PIPELINE}\" WHERE __time < TIMESTAMP '2024-06-01 03:00:00'"
SEGMENTS = (
    f"SELECT segment_id FROM sys.segments WHERE datasource = '{PIPELINE}' AND is_active = 1 AND is_published = 1 "
    "AND \"start\" = '2024-06-01T02:00:00.000Z'"
)


@pytest.fixture(scope="module")
def stage(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return make(stack, tmp_path_factory.mktemp("visits"))


def maintained(stage: Stage, kind: str) -> list[str]:
    """Do what is due, and return what of that kind it was."""
    done = stage.shop.call("maintain", "--json")
    assert done.returncode == 0, done.stderr
    return [duty["words"] for duty in json.loads(done.stdout)["duties"] if duty["kind"] == kind]


def rows(druid: Druid, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in druid.sql(query)]


@pytest.mark.timeout(600)
def test_a_closed_interval_becomes_one_segment_of_the_same_rows_while_live_ones_come(stage: Stage) -> None:
    stage.fragments()
    druid = Druid(stage.shop.stack.env.druid)
    every = f'SELECT __time, page, visits, "_rows" {PAST}'
    before, segments = sorted(rows(druid, every)), rows(druid, SEGMENTS)
    assert len(segments) > 1 and before
    live = Sender(stage.shop, stage.pipeline.source)
    thread = threading.Thread(target=live.run, daemon=True)
    live.flowing.set()
    thread.start()
    newest = f"SELECT COUNT(*) FROM \"{PIPELINE}\" WHERE __time >= TIMESTAMP '2024-07-01'"
    until("live rows", lambda: rows(druid, newest)[0][0] > 0 or Pending("none"), timeout=120, interval=1)
    came = rows(druid, newest)[0][0]
    done = maintained(stage, "compact")
    assert any("2024-06-01T02:00" in line for line in done), done
    (task,) = [
        it for it in stage.tasks() if it["type"] == "compact" and _interval(stage, it["id"]).startswith("2024-06-01T02")
    ]
    assert _payload(stage, task["id"])["context"]["useConcurrentLocks"] is True
    until("one segment", lambda: len(rows(druid, SEGMENTS)) == 1 or Pending("more"), timeout=120, interval=1)
    until("live rows", lambda: rows(druid, newest)[0][0] > came or Pending("no more"), timeout=60, interval=1)
    assert sorted(rows(druid, every)) == before
    assert not any("2024-06-01T02:00" in line for line in maintained(stage, "compact"))
    live.end(thread)
    (ledger,) = stage.shop.verify(PIPELINE)
    assert ledger["equal"], ledger["differences"]
    report = json.loads(stage.shop.run("maintain", "--plan", "--json"))["accounts"]
    assert [(it["pipeline"], it["late"] > 0) for it in report] == [(PIPELINE, True)]


def _payload(stage: Stage, task: str) -> dict[str, Any]:
    url = f"{stage.shop.stack.env.druid.coordinator}/druid/indexer/v1/task/{task}"
    found: dict[str, Any] = httpx.get(url, trust_env=False).json()["payload"]
    return found


def _interval(stage: Stage, task: str) -> str:
    return str(_payload(stage, task)["ioConfig"]["inputSpec"]["interval"])


@pytest.mark.timeout(600)
def test_only_what_nothing_refers_to_is_deleted(stage: Stage) -> None:
    stage.live()
    for _ in range(2):
        stage.shop.run("stop", PIPELINE)
        stage.shop.run("start", PIPELINE)
    stage.healthy()
    restore = stage.services.registry.read()[PIPELINE].restore
    assert restore is not None
    kept = local(restore)
    assert kept is not None
    savepoints = set(kept.parent.glob("savepoint-*"))
    assert len(savepoints) == 2, "the first one's job is no record's any more"
    died = _die_at(stage, r"^\d+/\d+ verify$")
    files = [folder for folder in _replays(stage).iterdir() if folder.name == died]
    assert files, "the replay left its files, and will go on with them"
    nobodys = _replays(stage) / "of-nothing"
    nobodys.mkdir()
    time.sleep(1.1)
    stage.settle('savepoints = "1 s"\nreplay_files = "1 s"')
    done = maintained(stage, "delete")
    assert len(done) == 2, done
    assert set(kept.parent.glob("savepoint-*")) == {kept}
    assert files[0].is_dir() and not nobodys.exists()
    # What was kept was needed.
    stage.shop.run("replay", "--id", died)
    stage.shop.run("stop", PIPELINE)
    stage.shop.run("start", PIPELINE)
    stage.healthy()
    (ledger,) = stage.shop.verify(PIPELINE)
    assert ledger["equal"], ledger["differences"]


def _replays(stage: Stage) -> Path:
    folder = local(f"{stage.settings.env.flink.state}/replays/{stage.settings.env.name}")
    assert folder is not None
    return folder


def _die_at(stage: Stage, moment: str) -> str:
    """Begin a replay of the first hour that dies at a moment, and return its id."""
    request = {"project": str(stage.shop.project), "pipeline": PIPELINE, "id": "dead", "moment": moment, "pid": None}
    request |= {"start": "2024-06-01T00:00Z", "end": "2024-06-01T01:00Z", "timeout": 120.0, "rate": None}
    words = [sys.executable, "-m", "tests.soak.dying", json.dumps(request)]
    child = subprocess.run(words, cwd=ROOT, env=stage.shop.environ, capture_output=True, text=True, timeout=300)
    assert child.returncode == -9, child.stdout + child.stderr
    return "dead"


@pytest.mark.timeout(600)
def test_rows_older_than_they_are_to_be_kept_are_dropped(stage: Stage) -> None:
    """The last: it takes rows away that the log still holds."""
    stage.live()
    stage.shop.produce(500, seed=9, start="2024-07-02T00:00", step=1_000)
    druid = Druid(stage.shop.stack.env.druid)
    days = (datetime.now(UTC) - datetime(2024, 6, 15, tzinfo=UTC)).days
    counts = f"SELECT COUNT(*) {PAST}"
    assert rows(druid, counts)[0][0] > 0
    stage.settle(f'rows = {{{PIPELINE} = "{days} d"}}')
    assert len(maintained(stage, "rules")) == 1
    assert [rule["type"] for rule in druid.rules(PIPELINE)] == ["loadByPeriod", "dropForever"]
    until("rows of June dropped", lambda: rows(druid, counts)[0][0] == 0 or Pending("there"), timeout=180, interval=2)
    assert rows(druid, f'SELECT COUNT(*) FROM "{PIPELINE}"')[0][0] > 0, "those of July are live"
    assert maintained(stage, "rules") == []
