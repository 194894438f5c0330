"""Dead letters on the real stack: mended, sent back once for all pipelines of the topic, and the ledger closes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from penstock.data.load import MALFORMED
from penstock.deadletters.markers import FROM
from penstock.json_or_error import kind_of, rejection
from penstock.load import load_pipelines
from penstock.segments import moment
from penstock.services.kafka import Record
from penstock.topics import dlq_topic

from ..cli import Cli
from .test_replay import NAMES, make_room

pytestmark = pytest.mark.e2e

# Between the days of the tests before and after this one.
START, END = "2024-02-20T00:00Z", "2024-02-20T02:00Z"
FIXES = f"""
import json, subprocess, sys

DATED = {moment("", START)}

def mend(letter):
    if letter.kind == "nested too deeply":
        return letter.value.partition(b',"_deep"')[0] + b"}}"
    row = json.loads(letter.value)
    if letter.kind == "wrong type" and letter.offset % 2:
        return None
    return {{**row, "at": DATED + letter.offset}}

def wrong(letter):
    return {{"user": "nobody"}}

def overtaken(letter):
    place = f"{{letter.partition}}:{{letter.offset}}"
    words = ["dlq", "redrive", "clicks_hop", "--fix", "fixes.py:mend", "--record", place]
    subprocess.run([sys.executable, "-m", "penstock", *words], check=True)
    return mend(letter)
"""
#: The process dies when the letters of a transaction are sent, before their markers are.
KILLED = """
import os, signal, sys
import penstock.deadletters.markers as markers
markers.marker = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from penstock.cli import main
main()
"""
MENDED = ("nested too deeply", "missing required field", "number out of range")
ONLY = [word for kind in MENDED for word in ("--reason", kind)]


@pytest.fixture(scope="module")
def broken(shop: Cli, flights: Cli) -> Cli:
    """An hour of clicks with broken ones among them, then some that close its windows; all settled and equal."""
    make_room(flights)
    shop.run("apply")
    shop.produce(20_000, malformed=0.02, seed=21, start=START, step=200)
    shop.produce(2_000, seed=22, start="2024-02-20T03:00", step=20)
    (shop.project / "fixes.py").write_text(FIXES)
    for ledger in shop.verify(*NAMES):
        assert ledger["equal"], ledger["differences"]
    return shop


def _counts(shop: Cli, name: str) -> dict[str, dict[str, Any]]:
    found = json.loads(shop.run("dlq", "list", name, "--json"))
    return {group["reason"]: group for group in found["reasons"]}


def _sent(shop: Cli) -> dict[str, list[Record]]:
    """Return what was sent back, by the place of the broken record."""
    found: dict[str, list[Record]] = {}
    for record in shop.read(shop.topic):
        if origin := dict(record.headers).get(FROM):
            found.setdefault(origin.decode(), []).append(record)
    return found


def test_every_broken_record_is_listed_for_each_pipeline(broken: Cli) -> None:
    counts = [_counts(broken, name) for name in NAMES]
    assert set(counts[0]) == set(MALFORMED.values())
    for name, other in zip(NAMES, counts, strict=True):
        letters = Counter(kind_of(dict(it.headers)["reason"].decode()) for it in broken.read(dlq_topic(name)))
        assert {kind: group["letters"] for kind, group in other.items()} == letters
    place = counts[0]["wrong type"]["example"]
    shown = broken.run("dlq", "show", "clicks_hop", place)
    assert "reason       wrong type: field 'at' wants a time in epoch milliseconds, got a string" in shown
    assert '  "at": "yesterday"' in shown and "redriven     no" in shown and "key          user-" in shown


def test_python_says_of_each_record_what_the_job_said(broken: Cli) -> None:
    pipeline = next(it for it in load_pipelines(broken.project / "jobs") if it.name == "clicks_raw")
    dead = {}
    for letter in broken.read(dlq_topic(pipeline.name)):
        headers = dict(letter.headers)
        dead[int(headers["partition"]), int(headers["offset"])] = kind_of(headers["reason"].decode())
    for record in broken.read(pipeline.source.name):
        reason = rejection(pipeline.source, record.value)
        assert (reason and kind_of(reason)) == dead.get((record.partition, record.offset)), record


def test_what_would_be_dead_again_is_not_sent(broken: Cli) -> None:
    dry = broken.call("dlq", "redrive", "clicks_raw", "--fix", "fixes.py:wrong", "--dry-run", "--json")
    assert dry.returncode == 1 and set(json.loads(dry.stdout)["counts"]) == {"unfit"}
    done = broken.call("dlq", "redrive", "clicks_raw", "--fix", "fixes.py:mend")
    assert done.returncode == 1
    assert "JSONDecodeError" in done.stdout and "fixes.py:9: " in done.stdout
    assert "held back" in done.stderr
    sent = _sent(broken)
    assert {len(records) for records in sent.values()} == {1}
    assert not any(_counts(broken, "clicks_hop")[kind]["redriven"] for kind in ("null value", "malformed JSON"))
    wrong = _counts(broken, "clicks_hop")["wrong type"]
    assert 0 < wrong["redriven"] < wrong["letters"], "those that the fix has left dead stay so"


def test_killed_between_letters_and_markers_each_is_sent_once(broken: Cli) -> None:
    before = set(_sent(broken))
    broken.produce(5_000, malformed=0.05, seed=23, start="2024-02-20T03:01", step=20)
    for ledger in broken.verify("clicks_raw"):
        assert ledger["equal"], ledger["differences"]
    words = ["--project", str(broken.project), "dlq", "redrive", "clicks_raw", "--fix", "fixes.py:mend", *ONLY]
    command = [sys.executable, "-c", KILLED, *words]
    died = subprocess.run(
        command, env=broken.environ, cwd=broken.project, capture_output=True, timeout=300, check=False
    )
    assert died.returncode == -9, died.stderr
    assert set(_sent(broken)) == before, "nobody gets to see what is not committed"
    done = json.loads(broken.run("dlq", "redrive", "clicks_raw", "--fix", "fixes.py:mend", *ONLY, "--json"))
    letters = {f"{broken.topic}/{it['record'].replace(':', '/')}" for it in done["records"]}
    assert letters and set(_sent(broken)) == before | letters
    assert {len(records) for records in _sent(broken).values()} == {1}
    for it in done["records"]:
        (record,) = _sent(broken)[f"{broken.topic}/{it['record'].replace(':', '/')}"]
        assert it["to"] == f"{record.partition}:{record.offset}"


def test_of_two_redrives_at_once_the_later_one_goes_on(broken: Cli) -> None:
    sent = _sent(broken)
    letters = json.loads(
        broken.run("dlq", "list", "clicks_raw", "--each", "--limit", "9999", "--reason", "wrong type", "--json")
    )
    place = next(it["record"] for it in letters if it["redriven"] is None and int(it["record"][2:]) % 2 == 0)
    first = broken.call("dlq", "redrive", "clicks_raw", "--fix", "fixes.py:overtaken", "--record", place)
    assert first.returncode == 3, first.stderr
    name = f"penstock-{broken.stack.env.name}-redrive-web.clicked.v1"
    assert f"another process has taken over as {name}" in first.stderr
    assert len(_sent(broken)) == len(sent) + 1
    assert {len(records) for records in _sent(broken).values()} == {1}


@pytest.mark.parametrize("name", NAMES)
def test_a_second_redrive_has_nothing_to_do_whatever_the_pipeline(broken: Cli, name: str) -> None:
    assert "nothing to do" in broken.run("dlq", "redrive", name, "--fix", "fixes.py:mend", *ONLY)
    counts = _counts(broken, name)
    assert all(counts[kind]["redriven"] == counts[kind]["letters"] > 0 for kind in MENDED)


def test_the_ledger_closes_and_says_how_many_were_redriven(broken: Cli) -> None:
    sent = len(_sent(broken))
    for ledger in broken.verify(*NAMES):
        assert ledger["equal"], ledger["differences"]
        note = f"{sent:,} of {ledger['dead_lettered']:,} dead letters were redriven: they are in the log anew"
        assert note in ledger["notes"]


def test_a_replay_counts_the_late_ones_among_them(broken: Cli) -> None:
    """Behind the log's last record there is the marker of a redrive's transaction."""
    words = ("replay", "clicks_tumble", "--from", START, "--to", END, "--json")
    receipt = json.loads(broken.run(*words))
    figures = receipt["figures"]
    healed = sum(it["events"] for it in figures["computed"].values()) - sum(
        it["events"] for it in figures["before"].values()
    )
    dated = [json.loads(record.value or b"")["at"] for records in _sent(broken).values() for record in records]
    assert healed >= sum(moment("", START) <= at < moment("", END) for at in dated) > 0
    (ledger,) = broken.verify("clicks_tumble")
    assert ledger["equal"], ledger["differences"]
    assert sum(segment["healed"] for segment in ledger["segments"]) >= healed


def test_a_place_without_a_letter_is_told(broken: Cli, tmp_path: Path) -> None:
    for words in (("show", "clicks_raw", "0:99999999"), ("redrive", "clicks_raw", "--record", "0:99999999")):
        done = broken.call("dlq", *words)
        assert done.returncode == 2
        assert "clicks_raw has no dead letter of web.clicked.v1 at 0:99999999" in done.stderr
