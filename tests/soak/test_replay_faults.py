"""Kill each part, and the command line itself, at each step of a replay: the end state is always the same.

A case is a replay of an hour with new late events in it, and with rows that Druid's tasks still hold.  In it one
process is killed with -9.  Where the replay does not go on by itself, `penstock replay --id` is run again until it is
done.  Then Druid must equal the oracle in the hour and be unchanged outside it, and nothing may be left of the replay
but its receipt.

    pytest -s tests/soak/test_replay_faults.py                          all of it: an hour
    pytest -s tests/soak/test_replay_faults.py -k "compute and kafka"   some cells

Outcomes are kept in .penstock/replay-faults.json, and the newest of each cell is in docs/replay-faults.md, which is
written when each cell has one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock import stack as native
from penstock.data.generator import generate
from penstock.data.load import Clock, Load
from penstock.data.produce import produce
from penstock.flink.spec import job_name
from penstock.lock import environment_lock
from penstock.replay.record import Replay
from penstock.replay.scope import utc
from penstock.segments import moment
from penstock.services.flink import Flink, local
from penstock.services.protocols import connect
from penstock.settings import Settings, load_settings
from penstock.wait import Pending, until

from ..cli import ROOT, Cli
from ..e2e.test_replay import Rows, _expected, _pipeline, _served

pytestmark = pytest.mark.native

HOUR = 3_600_000
START = moment("", "2024-05-01T00:00Z")
#: Hours that are replayed, in turn; what comes after them is live.
HOURS = 3
#: Records a second of the bounded job: slow enough to be met while it reads.
RATE = 3_000.0
TIMEOUT = 120.0
#: What is kept of a cell until it has ended well.
WRONG = "WRONG"
#: How often a replay is run again at most.
RERUNS = 6

#: The process that runs the replay, and the parts of the stack.
CLI = "cli"
VICTIMS = (
    CLI,
    "flink-taskmanager",
    "flink-jobmanager",
    "druid-indexer",
    "druid-coordinator",
    "druid-broker",
    "kafka",
)

#: When the process is killed: as the step begins, but for what takes its time.
MOMENTS = {
    "close": r"^\d+/\d+ close$",
    "stop": r"^\d+/\d+ stop$",
    "cut": r"^\d+/\d+ cut$",
    "settle": r"^\d+/\d+ settle$",
    "submit": r": submitting$",
    "compute": r"^computing .*: running, [1-9]",
    "verify": r"^\d+/\d+ verify$",
    "hand off": r"^\d+/\d+ hand off$",
    "publish": r"^Druid's task .*: RUNNING$",
    "check": r"^\d+/\d+ check$",
    "resume": r"^\d+/\d+ resume$",
    "receipt": r"^\d+/\d+ receipt$",
}
WORDS = {
    "submit": "compute: as the job is submitted",
    "compute": "compute: while it reads the log",
    "publish": "publish: while Druid's task runs",
}
STEPS = {
    "clicks_tumble": (
        *("close", "cut", "settle", "submit", "compute", "verify"),
        *("hand off", "publish", "check", "receipt"),
    ),
    "clicks_raw": ("stop", "submit", "compute", "publish", "resume"),
}


@dataclass(frozen=True)
class Cell:
    pipeline: str
    step: str
    victim: str

    def __str__(self) -> str:
        return f"{self.pipeline}-{self.step.replace(' ', '_')}-{self.victim}"


#: What became of each cell, and when: by the cell's name.
KEPT = ROOT / ".penstock" / "replay-faults.json"
CELLS = [Cell(name, step, victim) for name, steps in STEPS.items() for step in steps for victim in VICTIMS]


@dataclass
class Faults:
    """The stage of all cases: how far event time has come, and what became of each cell."""

    shop: Cli
    head: int = START
    number: int = 0

    @property
    def settings(self) -> Settings:
        return load_settings(self.shop.project, environ=self.shop.environ)

    def send(self, count: int, start: int, step: float) -> None:
        """Send good events, `step` ms of event time apart."""
        self.number += 1
        topic = _pipeline(self.shop, "clicks_raw").source
        clock = Clock(start_ms=start, step_ms=step, disorder_s=0)
        produce(self.shop.stack.env.kafka, topic, generate(topic, Load(count, seed=self.number, clock=clock)))

    def live(self, count: int, step: float) -> None:
        """Let the live time go on."""
        self.send(count, self.head, step)
        self.head += int(count * step)

    def healthy(self) -> None:
        """Wait until every part and every live job runs."""

        def parts() -> bool | Pending:
            sick = [part.name for part in native.status(self.shop.stack) if not part.healthy]
            return not sick or Pending(", ".join(sick))

        until("the stack's parts", parts, timeout=300, interval=0.5)
        for name in ("clicks_tumble", "clicks_hop", "clicks_raw"):
            until(f"job {name}", lambda name=name: self.runs(name), timeout=120, interval=0.5)

    def runs(self, name: str) -> bool | Pending:
        """A job that was restored knows no watermark at first: a replay is refused then."""
        flink = Flink(self.shop.stack.env.flink)
        job = next((job for job in flink.jobs() if job.name == job_name(name) and job.running), None)
        if job is None:
            return Pending("does not run")
        return (name == "clicks_raw" or flink.watermark(job.id) is not None) or Pending("has no watermark")

    def settled(self, name: str) -> None:
        """Wait until Druid serves what the live job has made of all that was sent."""
        last: list[Rows] = [{}]

        def still() -> bool | Pending:
            now = _served(self.shop, _pipeline(self.shop, name))
            same, last[0] = now == last[0], now
            return same or Pending("rows come")

        until(f"rows of {name}", still, timeout=120, interval=2.5)


@pytest.fixture(scope="module")
def faults(shop: Cli) -> Faults:
    """Three hours of clicks, all windows closed, and settled."""
    shop.run("apply")
    stage = Faults(shop)
    stage.live(9_000, step=HOURS * HOUR / 9_000)
    stage.live(1_000, step=120)
    for ledger in shop.verify():
        assert ledger["equal"], ledger["differences"]
    return stage


@dataclass
class Case:
    """One replay with a fault in it."""

    stage: Faults
    cell: Cell

    def __post_init__(self) -> None:
        self.id = f"fault-{int(time.time())}-{CELLS.index(self.cell)}"
        self.first = START + CELLS.index(self.cell) % HOURS * HOUR
        self.end = self.first + HOUR
        self.pipeline = _pipeline(self.stage.shop, self.cell.pipeline)

    def prepare(self) -> Rows:
        """Send late events into the hour, and live ones that a task of Druid holds; return what is served then."""
        stage = self.stage
        stage.healthy()
        stage.live(100, step=400)
        stage.send(30, self.first + 60_000, step=(HOUR - 120_000) / 30)
        time.sleep(3)  # the commits of the jobs
        stage.settled(self.cell.pipeline)
        return _served(stage.shop, self.pipeline)

    def run(self) -> str:
        """Run the replay, killed at its moment, and again until it is done; return what happened in words."""
        victim = self.cell.victim
        pids = {part.name: part.pid for part in native.status(self.stage.shop.stack)}
        pid = None if victim == CLI else pids[victim]
        request = {"project": str(self.stage.shop.project), "pipeline": self.cell.pipeline, "id": self.id}
        request |= {"start": utc(self.first), "end": utc(self.end), "timeout": TIMEOUT}
        request |= {"rate": RATE if self.cell.step == "compute" else None}
        request |= {"moment": MOMENTS[self.cell.step], "pid": pid}
        command = [sys.executable, "-m", "tests.soak.dying", json.dumps(request)]
        child = subprocess.run(
            command, cwd=ROOT, env=self.stage.shop.environ, capture_output=True, text=True, timeout=600, check=False
        )
        assert child.stdout.startswith('{"killed"'), f"nothing was killed: {child.stdout}{child.stderr}"
        killed = json.loads(child.stdout.splitlines()[0])["killed"]
        if child.returncode == 0:
            return f"went on, {time.time() - killed:.0f} s"
        how = "killed" if victim == CLI else f"exit {child.returncode}"
        assert child.returncode == (-9 if victim == CLI else child.returncode), child.stderr
        print(f"\n{self.cell}: {how}: {child.stderr.strip()}", flush=True)
        for rerun in range(1, RERUNS + 1):
            done = self.stage.shop.call("replay", "--id", self.id, "--timeout", str(TIMEOUT), "--json")
            if done.returncode == 0:
                return f"{how}, done by {rerun} rerun{'s' * (rerun > 1)}, {time.time() - killed:.0f} s"
            print(f"{self.cell}: rerun {rerun}: exit {done.returncode}: {done.stderr.strip()}", flush=True)
            time.sleep(5)
        raise AssertionError(f"not done after {RERUNS} reruns: {done.stderr}")

    def check(self, before: Rows) -> None:
        """See that the end state is the one of a replay that nothing has disturbed."""
        stage, env = self.stage, self.stage.shop.stack.env
        receipt = connect(stage.settings).replays.read()[self.id]
        assert receipt.status == "done"
        self._figures(before, receipt)
        stage.healthy()
        registered = connect(stage.settings).registry.read()[self.cell.pipeline]
        running = [job for job in Flink(env.flink).jobs() if job.live]
        assert registered.status == "running" and registered.job_id in {job.id for job in running}
        assert len(running) == 3, [job.name for job in running]
        address = f"{env.druid.coordinator}/druid/indexer/v1/tasks"
        tasks = httpx.get(address, params={"state": "running"}, trust_env=False)
        assert not [task["id"] for task in tasks.json() if not task["id"].startswith("index_kafka_")]
        self._nothing_left()

    def _figures(self, before: Rows, receipt: Replay) -> None:
        shop, cut = self.stage.shop, receipt.cut
        assert cut is not None
        every = self.cell.pipeline == "clicks_raw"
        want = {
            at: rows
            for at, rows in _expected(shop, self.pipeline, None if every else cut.high).items()
            if self.first <= at < self.end
        }
        # What is live: a killed indexer's rows are away until they are read again.
        live = max(before) - HOUR // 60

        def outside(found: Rows) -> Rows:
            return {at: rows for at, rows in found.items() if at < live and not self.first <= at < self.end}

        def equal() -> bool | Pending:
            now = _served(shop, self.pipeline)
            inside = {at: rows for at, rows in now.items() if self.first <= at < self.end}
            if inside != want:
                return Pending(f"the hour is not the oracle's at {_apart(inside, want)}")
            return outside(now) == outside(before) or Pending(f"it changed at {_apart(outside(now), outside(before))}")

        until(f"Druid's {self.cell.pipeline}", equal, timeout=120, interval=1)
        assert {at: rows for at, rows in before.items() if at in want} != want or every, "there was nothing to heal"

    def _nothing_left(self) -> None:
        settings = self.stage.settings
        folder = local(f"{settings.env.flink.state}/replays")
        assert folder is not None
        left = [str(item) for item in folder.rglob("*") if item.name != settings.env.name]
        locks = settings.home / "locks"
        left += [str(item) for item in locks.glob("*") if ".replay." in item.name or item.suffix == ".json"]
        assert left == []
        with environment_lock(settings, "a look"):
            pass

    def give_up(self) -> None:
        """Clear the stage for the next case."""
        known = connect(self.stage.settings).replays.read().get(self.id)
        if known is not None and known.status == "running":
            self.stage.healthy()
            print(self.stage.shop.call("replays", "--abandon", self.id).stderr, flush=True)


def _apart(found: Rows, want: Rows) -> str:
    wrong = sorted(at for at in {*found, *want} if found.get(at) != want.get(at))
    return ", ".join(map(utc, wrong[:5])) + f" ({len(wrong)} in all)" * (len(wrong) > 5)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_killed_at_any_step_it_ends_the_same(faults: Faults, cell: Cell) -> None:
    case = Case(faults, cell)
    before = case.prepare()
    keep(cell, WRONG)
    try:
        outcome = case.run()
        case.check(before)
    except Exception as error:
        print(f"\n{cell}: WRONG: {error}", flush=True)
        raise
    finally:
        case.give_up()
    keep(cell, outcome)
    print(f"\n{cell}: {outcome}", flush=True)


@pytest.mark.timeout(600)
def test_afterwards_every_ledger_closes(faults: Faults) -> None:
    """And the table is written, if every cell has an outcome."""
    faults.healthy()
    ledgers = faults.shop.verify()
    text = report(kept(), ledgers)
    if all(kept().get(str(cell), Outcome(WRONG)).words != WRONG for cell in CELLS):
        Path(ROOT / "docs/replay-faults.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")
    for ledger in ledgers:
        assert ledger["equal"], ledger["differences"]


@dataclass(frozen=True)
class Outcome:
    """What became of a cell, and on which day (UTC)."""

    words: str
    day: str = ""


def kept() -> dict[str, Outcome]:
    if not KEPT.is_file():
        return {}
    return {name: Outcome(**item) for name, item in json.loads(KEPT.read_text(encoding="utf-8")).items()}


def keep(cell: Cell, words: str) -> None:
    known = kept() | {str(cell): Outcome(words, f"{datetime.now(UTC):%Y-%m-%d}")}
    KEPT.write_text(json.dumps({name: asdict(item) for name, item in known.items()}, indent=1), encoding="utf-8")


def report(outcomes: dict[str, Outcome], ledgers: list[dict[str, Any]]) -> str:
    """Return docs/replay-faults.md."""
    days = sorted({item.day for item in outcomes.values()})
    when = " to ".join(dict.fromkeys([days[0], days[-1]]))
    kinds = {"clicks_tumble": "A windowed pipeline", "clicks_raw": "A pass-through pipeline"}
    lines = [
        "# Faults in a replay",
        "",
        f"Run by `make soak` on {when}, {os.cpu_count()} cores: {len(outcomes)} replays of",
        "an hour with late events in it. In each one process is killed with -9 as the step begins, or when is said.",
        "*Went on* is a replay that needed nobody; else `penstock replay --id` was run again. The seconds are from the",
        "kill to the receipt. After each, Druid equalled the oracle in the hour, late events included, and had changed",
        "nowhere else; the live job ran; no file, lock, job or task of the replay was left.",
    ]
    for name, steps in STEPS.items():
        lines += ["", f"## {kinds[name]}", "", "| Step | " + " | ".join(VICTIMS) + " |"]
        lines.append("| --- |" + " --- |" * len(VICTIMS))
        for step in steps:
            row = [outcomes.get(str(Cell(name, step, victim)), Outcome("-")).words for victim in VICTIMS]
            lines.append(f"| {WORDS.get(step, step)} | " + " | ".join(row) + " |")
    lines += ["", "## Afterwards", "", "| Pipeline | `penstock verify` | Read | Late | Healed | Rows compared |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: |")
    for ledger in ledgers:
        healed = sum(segment["healed"] for segment in ledger["segments"])
        counts = (ledger["read"], ledger["late"], healed, ledger["rows_compared"])
        verdict = "equal" if ledger["equal"] else "NOT EQUAL"
        lines.append(f"| {ledger['pipeline']} | {verdict} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    return "\n".join(lines) + "\n"
