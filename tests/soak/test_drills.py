"""Kill every part of the stack under load, with -9, and prove that no figure is wrong.

Two million generated events (1 % malformed, 5 % late, 2 % duplicates, a hot key, an idle partition) flow while
TaskManager, JobManager, broker and indexer are killed in turn.  Then every pipeline's ledger must close, and
`.out` must hold no row twice.  Recovery is measured from the outside: from the kill to the first answer of Druid that
holds an event sent after it.  `make soak` runs this and writes docs/drills.md.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from penstock import stack as native
from penstock.data.generator import generate
from penstock.data.load import MALFORMED, START_MS, Clock, Faults, Load, Spread
from penstock.data.produce import Produced, produce
from penstock.load import load_pipelines
from penstock.services.druid import Druid
from penstock.services.flink import Flink
from penstock.settings import Settings
from penstock.wait import Pending, until

from ..cli import ROOT, Cli
from ..pages import put

pytestmark = pytest.mark.native

#: Events, and their rate: so slow that every kill meets a running flow, and recovery is not that of a backlog.
COUNT = int(os.environ.get("PENSTOCK_DRILL_EVENTS", "2000000"))
RATE = float(os.environ.get("PENSTOCK_DRILL_RATE", "5000"))
STEP_MS = 5.0
#: The parts that are killed, and the seconds in which rows should flow again.
AIMS = {"flink-taskmanager": 15, "flink-jobmanager": 30, "kafka": 30, "druid-indexer": 30}


@dataclass
class Sender:
    """Sends the load from a thread, and knows how far event time has come."""

    sent: int = 0
    done: Produced | None = None
    failure: BaseException | None = None

    def update(self, done: int, note: str = "") -> None:
        self.sent = done

    @property
    def event_time(self) -> int:
        return START_MS + int(self.sent * STEP_MS)


@contextmanager
def sending(shop: Cli, load: Load) -> Iterator[Sender]:
    topic = next(p.source for p in load_pipelines(ROOT / "tests/e2e/jobs"))
    sender = Sender()

    def run() -> None:
        try:
            sender.done = produce(shop.stack.env.kafka, topic, generate(topic, load), rate=RATE, progress=sender)
        except BaseException as error:
            sender.failure = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield sender
    thread.join(timeout=COUNT / RATE + 300)
    assert not thread.is_alive(), "the producer did not end"
    if sender.failure:
        raise sender.failure


def newest(settings: Settings) -> int:
    """Return the newest event time (epoch ms) that Druid serves of the unwindowed pipeline; far-dated rows left out."""
    query = 'SELECT MAX("newest") AS n FROM "clicks_raw" WHERE __time < TIMESTAMP \'2099-01-01\''
    rows = Druid(settings.env.druid).sql(query)
    return int(rows[0]["n"] or 0) if rows else 0


def part(settings: Settings, name: str) -> native.PartStatus:
    return next(status for status in native.status(settings) if status.name == name)


def kill(settings: Settings, name: str, sender: Sender) -> dict[str, Any]:
    """Kill a part and measure: seconds to a process that is healthy again, and to the first newer row in Druid."""
    pid = part(settings, name).pid
    assert pid is not None
    mark = sender.event_time + int(STEP_MS * RATE)  # an event that is sent within a second from now
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)

    def flows() -> Pending | float:
        behind = mark - newest(settings)
        return (
            time.monotonic() - began if behind <= 0 else Pending(f"Druid is {behind / 1000:.0f} s of event time behind")
        )

    recovered = until(f"rows sent after {name} was killed", flows, timeout=300, interval=0.25)
    back = part(settings, name)
    assert back.pid != pid, f"{name} was not killed"
    jobs = [job for job in Flink(settings.env.flink).jobs() if job.running]
    return {"part": name, "seconds": recovered, "jobs": len(jobs)}


@pytest.mark.timeout(3600)
def test_every_part_is_killed_under_load_and_no_figure_is_wrong(shop: Cli) -> None:
    shop.run("apply")
    load = Load(
        COUNT,
        clock=Clock(step_ms=STEP_MS),
        spread=Spread(keys=1000, hot_key=0.2, idle=(3,)),
        faults=Faults(late=0.05, duplicate=0.02, malformed=0.01, too_early=0.0005),
    )
    kills = []
    with sending(shop, load) as sender:
        until(
            "the first rows in Druid",
            lambda: newest(shop.stack) > 0 or Pending(f"{sender.sent:,} sent"),
            timeout=120,
        )
        for turn in range(2):
            for name in AIMS:
                if sender.sent > COUNT * 0.9:
                    break
                time.sleep(3)
                kills.append(kill(shop.stack, name, sender) | {"turn": turn + 1})
                print(f"killed {name}: rows flow again after {kills[-1]['seconds']:.1f} s", flush=True)
    assert {row["part"] for row in kills} == set(AIMS), "the load ended before every part had been killed"
    assert sender.done is not None
    ledgers = shop.verify()
    broken = sum(count for kind, count in sender.done.kinds.items() if kind in MALFORMED)
    write_report(kills, sender.done, ledgers)
    for ledger in ledgers:
        assert ledger["equal"], ledger["differences"]
        assert ledger["read"] == sender.done.count
        assert ledger["dead_lettered"] == broken
        assert ledger["too_early"] == sender.done.kinds["too early"]


@pytest.mark.timeout(1800)
def test_an_indexer_that_is_killed_with_its_overlord_repeats_no_row(flights: Cli) -> None:
    """The overlord finds its tasks in its store and gives them out anew, under the ids by which their files lie there.

    Enough rows for a task to have persisted some: it does so when it holds 150,000.
    """
    flights.run("apply")
    flights.run("produce", "flights", "--limit", "250000", timeout=900)
    druid = Druid(flights.stack.env.druid)

    def read() -> bool | Pending:
        rows = druid.sql('SELECT COUNT(*) AS n FROM "flights_raw"')[0]["n"]
        return rows > 160_000 or Pending(f"{rows:,} rows")

    until("rows in Druid", read, timeout=600)
    killed = ("druid-coordinator", "druid-indexer")
    pids = {name: part(flights.stack, name).pid for name in killed}
    for pid in pids.values():
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    until(
        "both, to be back",
        lambda: (
            all((it := part(flights.stack, name)).healthy and it.pid != pids[name] for name in killed)
            or Pending("not healthy")
        ),
        timeout=300,
    )
    for ledger in flights.verify():
        assert ledger["equal"], ledger["differences"]


def _aim(row: dict[str, Any]) -> str:
    aim = AIMS[row["part"]]
    return f"< {aim} s {'met' if row['seconds'] < aim else 'missed'}"


def write_report(kills: list[dict[str, Any]], done: Produced, ledgers: list[dict[str, Any]]) -> None:
    """Write the beginning of docs/drills.md from this run."""
    lines = [
        f"Written by `make soak` on {datetime.now(UTC):%Y-%m-%d}: {done.count:,} generated events at {RATE:,.0f}/s,",
        "parallelism 2, four partitions of which one is idle, on 2 cores. Each part is killed with -9 in mid-run;",
        "the seconds are from the kill to the first answer of Druid that holds an event sent after it.",
        "",
        "| Killed | Rows flow again after | Aim |",
        "| --- | ---: | --- |",
        *(f"| {row['part']} | {row['seconds']:.1f} s | {_aim(row)} |" for row in kills),
        "",
        "Afterwards `penstock verify`:",
        "",
        "| Pipeline | Verdict | Read | On time | Late | Too early | Dead-lettered | Rows compared | Differences |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for ledger in ledgers:
        verdict = "equal" if ledger["equal"] else "NOT EQUAL"
        counts = [ledger[key] for key in ("read", "on_time", "late", "too_early", "dead_lettered", "rows_compared")]
        counts.append(len(ledger["differences"]) + ledger["more_differences"])
        lines.append(f"| {ledger['pipeline']} | {verdict} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    put(ROOT / "docs/drills.md", "# Drills", lines)
