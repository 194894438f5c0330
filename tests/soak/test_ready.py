"""The whole stack with Airflow, from an empty directory: how soon each part is healthy, and what it takes idle.

`make soak` writes its section of docs/airflow.md.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psutil
import pytest

from penstock import stack as native
from penstock.settings import Settings, load_settings
from penstock.stack import PartStatus, processes
from penstock.stack.layout import layout
from penstock.stack.manager import Manager
from penstock.testing.native import free_port_base

from ..conftest import ROOT
from ..pages import put

pytestmark = [pytest.mark.e2e, pytest.mark.native]

#: Seconds until all is healthy, and bytes that all take idle, at most; seconds of idling.
READY, MEMORY, IDLE = 90, 5e9, 30
HEADING = "## How soon it is ready"


@dataclass
class Start:
    """The progress of an `up`: when (s after its beginning) each part that was waited for was waited for no more."""

    began: float = field(default_factory=time.time)
    healthy: dict[str, float] = field(default_factory=dict)
    waits: set[str] = field(default_factory=set)

    def update(self, text: str) -> None:
        _, found, names = text.partition("waiting for ")
        now = set(re.findall(r"([a-z-]+) \(", names)) if found else set()
        self.healthy |= {name: time.time() - self.began for name in self.waits - now}
        self.waits = now


def processor_time(pid: int) -> float:
    """Return the seconds of a process and of its children, also of those that have ended."""
    mine = psutil.Process(pid)
    times = [it.cpu_times() for it in (mine, *mine.children(recursive=True))]
    return sum(it.user + it.system for it in times) + times[0].children_user + times[0].children_system


@pytest.fixture
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a stack that was never started; down at the end."""
    environ = {
        "PENSTOCK_STATE": str(tmp_path_factory.mktemp("ready")),
        "PENSTOCK_PORT_BASE": str(free_port_base()),
        "JAVA_HOME": os.environ.get("JAVA_HOME", ""),
    }
    settings = load_settings(ROOT, environ=environ)
    yield settings
    native.down(settings)
    assert processes.own(settings.stack.state) == []


@pytest.mark.timeout(600)
def test_the_whole_stack_from_nothing(empty: Settings) -> None:
    """What it takes is told, and how soon it is ready; only the memory is a limit: other work slows a start down."""
    start = Start()
    found = native.up(empty, start)
    took, load = time.time() - start.began, os.getloadavg()[0]
    start.update("")
    assert all(it.healthy for it in found) and any(it.name.startswith("airflow") for it in found)
    since = {name: info.since - start.began for name, info in Manager(layout(empty)).infos().items()}
    used = {it.name: processor_time(it.pid) for it in found if it.pid}
    time.sleep(IDLE)
    idle = native.status(empty)
    # One that was never waited for was healthy as soon as it was started.
    healthy = since | start.healthy
    lines = report(took, load, idle, [(it.name, since[it.name], healthy[it.name], used[it.name]) for it in idle])
    print("\n" + "\n".join(lines))
    assert 0 < sum(it.rss for it in idle) < MEMORY
    put(ROOT / "docs/airflow.md", HEADING, lines)


def report(took: float, load: float, idle: list[PartStatus], parts: list[tuple[str, float, float, float]]) -> list[str]:
    rss = {it.name: it.rss / 1e6 for it in idle}
    airflows = sum(size for name, size in rss.items() if name.startswith("airflow"))
    total, used = sum(rss.values()), sum(it[3] for it in parts)
    cores = os.cpu_count() or 1
    return [
        f"Written by `make soak` on {datetime.now(UTC):%Y-%m-%d}: `penstock up` with Airflow, from an empty state",
        "directory, so that Kafka's storage, Druid's and Airflow's databases and all secrets are made on the way.",
        "",
        "| | | Aim |",
        "| --- | ---: | --- |",
        f"| until every part is healthy, on {cores} cores at a load of {load:.0f} | {took:.0f} s "
        f"| < {READY} s {'met' if took < READY else 'missed'} |",
        f"| processor time of all parts until then | {used:.0f} s | |",
        f"| memory of all, idle for {IDLE} s | {total / 1e3:.1f} GB | < {MEMORY / 1e9:.0f} GB "
        f"{'met' if total * 1e6 < MEMORY else 'missed'} |",
        f"| of which Airflow's | {airflows / 1e3:.1f} GB | |",
        "",
        "| Part | Started at, s | Healthy at, s | Processor time, s | Memory, MB |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {max(0.0, began):.0f} | {healthy:.0f} | {seconds:.1f} | {rss[name]:,.0f} |"
            for name, began, healthy, seconds in parts
        ),
        "",
        "Airflow's other parts start once its API server is healthy: beside it they take from the JVMs what they gain.",
    ]
