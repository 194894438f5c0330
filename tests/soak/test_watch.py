"""What `penstock_watch` says of a live pipeline when a part of it is gone, how soon, and how soon all is well again.

The watch looks every few seconds here, every minute in its DAG.  `make soak` writes its section of docs/drills.md.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

from penstock import stack as native
from penstock.settings import Settings
from penstock.stack.layout import layout
from penstock.stack.manager import Manager
from penstock.wait import Pending, until

from ..cli import ROOT
from ..pages import put
from .test_replay_ranges import Sender
from .visits import PIPELINE, Stage, make

pytestmark = [pytest.mark.e2e, pytest.mark.native]

#: Seconds between two looks.
EVERY = 3.0
#: Looks without a finding, one after the other, after which all is well.
QUIET = 4


@dataclass
class Watching:
    """The watch's process, and all its looks."""

    process: subprocess.Popen[str]
    looks: list[dict[str, Any]] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            head, found, look = line.partition("@look ")
            if found:
                self.looks.append(json.loads(look))
                print(f"  {self.looks[-1]}", flush=True)
            else:
                self.rest.append(head)

    def since(self, moment: float) -> list[dict[str, Any]]:
        return [look for look in self.looks if look["at"] >= moment]

    def quiet(self, moment: float) -> float | Pending:
        """Return when (epoch s) the looks since then began to find nothing any more."""
        last = self.since(moment)[-QUIET:]
        if len(last) < QUIET or any(look["words"] for look in last):
            assert self.process.poll() is None, "".join(self.rest)[-3000:]
            return Pending(str(last[-1]["words"]) if last else "no look yet")
        return float(last[0]["at"] + last[0]["took"])


@dataclass(frozen=True)
class Saying:
    """A finding as the watch told it: when it was first said (seconds after the fault), and its latest words."""

    after: float
    what: str
    cause: str


@pytest.fixture(scope="module")
def stage(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = make(stack, tmp_path_factory.mktemp("visits"))
    made.live()
    sender = Sender(made.shop, made.pipeline.source)
    thread = threading.Thread(target=sender.run, daemon=True)
    sender.flowing.set()
    thread.start()
    yield made
    sender.end(thread)


@pytest.fixture(scope="module")
def watching(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    words = [sys.executable, "-m", "tests.soak.watching", str(stage.shop.project), str(EVERY)]
    home = {"AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    process = subprocess.Popen(
        words, cwd=ROOT, env={**stage.shop.environ, **home}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    made = Watching(process)
    threading.Thread(target=made.read, daemon=True).start()
    yield made
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def drills(watching: Watching) -> Iterator[list[tuple[str, list[Saying], float]]]:
    done: list[tuple[str, list[Saying], float]] = []
    yield done
    if len(done) == len(FAULTS):
        put(ROOT / "docs/drills.md", "## What the watch says", report(done, watching.looks))


def gone(name: str) -> Callable[[Stage], None]:
    def kill(stage: Stage) -> None:
        """Kill a part by -9, and have the process manager leave it so."""
        settings = stage.shop.stack
        pid = next(it.pid for it in native.status(settings) if it.name == name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        manager = Manager(layout(settings))

        def stopped() -> bool | Pending:
            manager.stop_part(name)
            state = manager.infos()[name].state
            return state == "stopped" or Pending(state)

        until(name, stopped, timeout=30)

    return kill


def back(name: str) -> Callable[[Stage], None]:
    return lambda stage: Manager(layout(stage.shop.stack)).start_part(name)


def suspend(stage: Stage) -> None:
    url = f"{stage.shop.stack.env.druid.coordinator}/druid/indexer/v1/supervisor/{PIPELINE}/suspend"
    httpx.post(url, trust_env=False).raise_for_status()


def applied(stage: Stage) -> None:
    stage.shop.run("apply")


#: What breaks it, what mends it, what is said at least, and for how many seconds it lasts.
FAULTS = {
    "TaskManager killed, not brought back": (gone("flink-taskmanager"), back("flink-taskmanager"), "Flink is ", 60),
    "supervisor suspended by hand": (suspend, applied, f"{PIPELINE}: supervisor is suspended", 20),
    "Kafka down for a minute": (gone("kafka"), back("kafka"), "Kafka is unavailable", 60),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_watch_tells_what_is_gone_and_when_all_is_well(
    stage: Stage, watching: Watching, drills: list[tuple[str, list[Saying], float]], fault: str
) -> None:
    break_, mend, expected, lasts = FAULTS[fault]
    began = time.time()
    until("a healthy pipeline", lambda: watching.quiet(began), timeout=240, interval=1)
    print(f"\n{fault}", flush=True)
    began = time.time()
    break_(stage)
    until(
        "the watch",
        lambda: any(it["words"] for it in watching.since(began)) or Pending("says nothing"),
        timeout=180,
        interval=0.5,
    )
    time.sleep(max(0.0, began + lasts - time.time()))
    mended = time.time()
    mend(stage)
    well = until("a healthy pipeline", lambda: watching.quiet(mended), timeout=300, interval=0.5)
    looks = watching.since(began)
    said = sayings(looks, began)
    drills.append((fault, said, well - mended))
    assert any(it.what.startswith(expected) for it in said), said
    # Notifiers hear of each thing once: not of every look, and not of what comes and goes.
    heard = [tuple(sorted(map(_what, findings))) for look in looks for findings in look["heard"]]
    assert heard[-1] == () and len(heard) == len(set(heard)), heard


def _what(line: str) -> str:
    return line.partition(" since ")[0]


def sayings(looks: list[dict[str, Any]], began: float) -> list[Saying]:
    """Return each finding once, in the order of their first saying."""
    found: dict[str, Saying] = {}
    for look in looks:
        for line in look["words"]:
            what, cause = _what(line), line.partition("Z: ")[2]
            after = found[what].after if what in found else look["at"] + look["took"] - began
            found[what] = Saying(after, what, cause)
    return list(found.values())


def report(drills: list[tuple[str, list[Saying], float]], looks: list[dict[str, Any]]) -> list[str]:
    cpu, took = (median(look[key] for look in looks if not look["words"]) * 1000 for key in ("cpu", "took"))
    lines = [
        f"Written by `make soak` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores: a live pipeline, 50 events a",
        f"second. The watch looks every {EVERY:.0f} s here; as the DAG `penstock_watch`, every minute, it says the",
        "same up to a minute later. *Well again* is when it says nothing any more, from when the cause was",
        "taken away (the part started by the process manager, the supervisor resumed by `penstock apply`).",
        f"A look while all is well takes {took:.0f} ms, {cpu:.0f} ms of them processor time (medians).",
        "",
        "| Fault | Said after | What it says | Likely cause | Well again after |",
        "| --- | ---: | --- | --- | ---: |",
    ]
    for fault, said, well in drills:
        for it in said:
            first = it is said[0]
            cells = (fault if first else "", f"{it.after:.0f} s", it.what, it.cause, f"{well:.0f} s" if first else "")
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def test_a_finding_is_told_once_in_its_latest_words() -> None:
    look = {"at": 3.0, "took": 1.0, "words": ["Kafka is unavailable since 2026-01-01T00:00:00Z: down"]}
    later = {"at": 6.0, "took": 1.0, "words": ["Kafka is unavailable since 2026-01-01T00:00:00Z: down: still"]}
    assert sayings([look, later], 1.0) == [Saying(3.0, "Kafka is unavailable", "down: still")]
    assert Path(ROOT / "docs/drills.md").exists()
