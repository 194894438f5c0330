"""Replay random ranges while live events go on arriving, late ones too: each is the oracle's, and the rest stays.

Maintenance compacts closed hours meanwhile, and a reader asks for each hour's events 20 times a second: it sees the old
or the new figure of a closed hour, and nothing else.

The ranges begin and end anywhere in a segment, in all that is closed by then, so that many overlap what was replayed
before.  `PENSTOCK_SEED=...` draws those of a failed run again, `PENSTOCK_RANGES=...` more or fewer for each pipeline.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from penstock.data.event import Event
from penstock.data.generator import generate
from penstock.data.load import Clock, Faults, Load
from penstock.data.produce import produce
from penstock.flink.spec import job_name
from penstock.pipeline import Pipeline, Topic
from penstock.replay.scope import Scope, utc
from penstock.segments import moment
from penstock.services.flink import Flink
from penstock.wait import Pending, until

from ..cli import Cli
from ..e2e.test_replay import (
    HOUR,
    NAMES,
    SEED,
    Reader,
    Rows,
    _expected,
    _pipeline,
    _served,
    inside,
    outside,
    random_range,
)

RANGES = int(os.environ.get("PENSTOCK_RANGES", "6"))
START = moment("", "2024-07-01T00:00Z")
#: An hour of event time in a minute: few enough events for all their windows to be compared each time.
RATE, STEP_MS = 50.0, 1200.0
FAULTS = Faults(late=0.05, duplicate=0.01, malformed=0.01, too_early=0.001)
BEFORE = 10_000
#: The exit code of what is refused, as where another process is at work.
BUSY = 3


@dataclass
class Sender:
    """Sends events from a thread, but while it is paused."""

    shop: Cli
    topic: Topic
    number: int = 0
    flowing: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None

    @property
    def head(self) -> int:
        """Where event time is."""
        return START + int((BEFORE + self.number) * STEP_MS)

    def _events(self) -> Iterator[Event]:
        clock = Clock(start_ms=self.head, step_ms=STEP_MS)
        for event in generate(self.topic, Load(10**7, seed=SEED, clock=clock, faults=FAULTS)):
            self.flowing.wait()
            if self.ended.is_set():
                return
            self.number += 1
            yield event

    def run(self) -> None:
        try:
            produce(self.shop.stack.env.kafka, self.topic, self._events(), rate=RATE)
        except BaseException as error:
            self.failure = error

    def end(self, thread: threading.Thread) -> None:
        self.ended.set()
        self.flowing.set()
        thread.join(60)
        assert not thread.is_alive() and self.failure is None, self.failure


@dataclass
class Maintainer:
    """Maintains from a thread, again and again, and keeps what was compacted."""

    shop: Cli
    compacted: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.ended.wait(5):
            done = self.shop.call("maintain", "--json")
            if done.returncode == BUSY:  # a replay publishes: next time
                continue
            if done.returncode != 0:
                self.failures.append(done.stderr)
                continue
            self.compacted += [duty["words"] for duty in json.loads(done.stdout)["duties"] if duty["kind"] == "compact"]


def _look(reader: Reader, within: Scope, name: str, settled: int) -> None:
    """Hold what a reader saw against the rule: of an hour that is closed, one figure or two; of any, no failure."""
    assert reader.failures == []
    assert reader.reads > 20, "else nothing was looked at"
    for at, figures in reader.seen.items():
        start = moment("", at)
        changes = 2 if within.start <= start < within.end else 1
        # Without windows no hour is closed: late events are rows like others.
        assert start >= settled or name == "clicks_raw" or len(figures) <= changes, (at, figures, within.asked)


def _closed(shop: Cli, pipeline: Pipeline, sender: Sender) -> int:
    """Return the end of the last hour that is closed in the live job, and of which each event has been sent."""
    if pipeline.name == "clicks_raw":
        at = sender.head
    else:
        flink = Flink(shop.stack.env.flink)
        job = next(job for job in flink.jobs() if job.name == job_name(pipeline.name) and job.running)
        at = flink.watermark(job.id) or 0
    return (at - 2 * 60_000) // HOUR * HOUR


def _check(shop: Cli, pipeline: Pipeline, within: Scope, high: dict[int, int], before: Rows, settled: int) -> None:
    """Compare with what the log held at the cut; what came after it for the range is late."""
    now = _served(shop, pipeline)
    assert inside(now, within) == inside(_expected(shop, pipeline, high), within)
    old, new = ({at: rows for at, rows in outside(it, within).items() if at < settled} for it in (before, now))
    assert new == old


def _check_all(shop: Cli, pipeline: Pipeline, sender: Sender) -> None:
    """Without windows nothing is late: in a pause, Druid is the oracle's everywhere."""
    sender.flowing.clear()

    def equal() -> bool | Pending:
        return _served(shop, pipeline) == _expected(shop, pipeline) or Pending("it is not the oracle's")

    try:
        until(f"Druid's {pipeline.name}", equal, timeout=180, interval=2)
    finally:
        sender.flowing.set()


@pytest.mark.timeout(7200)
def test_random_ranges_become_the_oracles_while_live_events_arrive(shop: Cli) -> None:
    shop.run("apply")
    topic = _pipeline(shop, "clicks_raw").source
    shop.produce(
        BEFORE, late=0.05, duplicate=0.01, malformed=0.01, too_early=0.001, seed=1, start=utc(START), step=STEP_MS
    )
    for ledger in shop.verify():
        assert ledger["equal"], ledger["differences"]
    sender, draw = Sender(shop, topic), random.Random(SEED)
    thread = threading.Thread(target=sender.run, daemon=True)
    sender.flowing.set()
    thread.start()
    maintainer = Maintainer(shop)
    maintaining = threading.Thread(target=maintainer.run, daemon=True)
    maintaining.start()
    print(f"\nPENSTOCK_SEED={SEED}", flush=True)
    for _ in range(RANGES):
        for name in NAMES:
            pipeline = _pipeline(shop, name)
            closed = _closed(shop, pipeline, sender)
            # An hour of event time is a minute of the clock: by now Druid serves what is older.
            settled = closed - HOUR
            within = random_range(pipeline, draw, START - HOUR, closed)
            before = _served(shop, pipeline)
            words = ("--from", utc(within.asked[0]), "--to", utc(within.asked[1]), "--reason", "a random range")
            reader = Reader(shop, name)
            with reader.looking():
                receipt = json.loads(shop.run("replay", name, *words, "--json", timeout=900))
            _look(reader, within, name, settled)
            assert (receipt["status"], receipt["parallelism"]) == ("done", 2)
            high = {int(partition): offset for partition, offset in receipt["cut"]["high"].items()}
            assert len(high) == 4
            if name == "clicks_raw":
                _check_all(shop, pipeline, sender)
            else:
                _check(shop, pipeline, within, high, before, settled)
            print(f"{name} {' '.join(words[:4])}: equal; {reader.reads} reads", flush=True)
    sender.end(thread)
    maintainer.ended.set()
    maintaining.join(300)
    assert maintainer.failures == [] and maintainer.compacted, "hours were compacted meanwhile"
    print(f"compacted meanwhile: {len(maintainer.compacted)} intervals", flush=True)
    for ledger in shop.verify():
        assert ledger["equal"], ledger["differences"]
        assert ledger["pipeline"] == "clicks_raw" or sum(segment["healed"] for segment in ledger["segments"]) > 0
