"""One engine, one build, one stack for all tests of this folder, taken down at their end.

While a test is being written, `PENSTOCK_COMPOSE_KEPT=<folder>` uses the stack of that folder again and leaves it up.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ..pages import put
from .stack import AIRGAP, ROOT, Clock, Compose, docker, passed

#: The order of a run: what needs the stack as it came up, then what harms it, then its end.
ORDER = (
    "test_up",
    "test_demo",
    "test_refusals",
    "test_airflow",
    "test_pages",
    "test_kills",
    "test_backup",
    "test_down",
)
CLOCK = Clock()
HEADING = "## The last run"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = {item: item.path.stem for item in items if item.path.parent == Path(__file__).parent}
    items.sort(key=lambda item: ORDER.index(here[item]) if here.get(item) in ORDER else -1)


@pytest.fixture(scope="session")
def clock() -> Clock:
    return CLOCK


def script(name: str, *words: str, timeout: float = 3600) -> str:
    return passed(
        subprocess.run([AIRGAP / name, *words], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    )


@pytest.fixture(scope="session")
def engine(clock: Clock) -> Iterator[str]:
    """A Docker engine; one that this has started is stopped at the end."""
    started = time.monotonic()
    said = script("engine.sh", "up")
    did = [word for word in ("installed", "started") if f"engine: {word.removesuffix('ed')}" in said]
    clock.time(f"Docker engine, {' and '.join(did) or 'which ran'}", started)
    yield docker("version", "--format", "{{.Server.Version}}").strip()
    if "engine: started" in said:
        script("engine.sh", "down")


@pytest.fixture(scope="session")
def built(engine: str, clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Every image, built; the project is there, and nothing of it runs."""
    kept = os.environ.get("PENSTOCK_COMPOSE_KEPT")
    compose = Compose(Path(kept) if kept else tmp_path_factory.mktemp("compose"))
    cached = docker("image", "ls", "--quiet")
    started = time.monotonic()
    passed(
        subprocess.run(
            [AIRGAP / "build.sh"],
            cwd=ROOT,
            env=compose.environ,
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
    )
    clock.time(f"images, {'some there before' if cached else 'none there before'}", started)
    yield compose
    if not kept:
        compose.call("--profile", "demo", "down", "--volumes", "--remove-orphans", "--timeout", "5")


@pytest.fixture(scope="session")
def stack(built: Compose, clock: Clock) -> Compose:
    """The stack, healthy, empty."""
    started = time.monotonic()
    built.up()
    clock.time("`docker compose up --wait`: from nothing to healthy", started)
    return built


@pytest.fixture(scope="session")
def flown(stack: Compose, clock: Clock) -> Compose:
    """The stack on which the demo has run, to `equal`."""
    started = time.monotonic()
    done = stack.call("run", "--rm", "-T", "demo", timeout=1800)
    print(done.stdout[-6000:])
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    assert "equal.  The stack stays up." in done.stdout
    clock.time("the demo: a year of flights, to `equal`", started)
    return stack


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the page's section after a run of everything that passed."""
    ran = {item.path.stem for item in session.items if item.path.parent == Path(__file__).parent}
    there = {path.stem for path in Path(__file__).parent.glob("test_*.py")}
    if exitstatus != 0 or ran != there or "PENSTOCK_COMPOSE_KEPT" in os.environ:
        return
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    about = f"{when} UTC, {os.cpu_count()} cores, {session.testscollected} tests passed."
    table = ["| What | Took |", "| --- | --- |", *(f"| {what} | {figure} |" for what, figure in CLOCK.lines)]
    put(ROOT / "docs/airgap.md", HEADING, [about, "", *table])
