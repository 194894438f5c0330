"""Two native stacks on one machine: neither knows of the other; and what an idle one takes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from penstock import stack as native
from penstock.settings import Settings, load_settings
from penstock.stack import processes
from penstock.testing.native import free_port_base

from ..conftest import ROOT
from ..e2e.test_stack import statuses

pytestmark = [pytest.mark.e2e, pytest.mark.native]

PARTS = 8


@pytest.fixture(scope="module")
def second(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A stack of its own beside the shared one, idle."""
    environ = {
        "PENSTOCK_STATE": str(tmp_path_factory.mktemp("second")),
        "PENSTOCK_PORT_BASE": str(free_port_base()),
        "JAVA_HOME": os.environ.get("JAVA_HOME", ""),
    }
    settings = load_settings(ROOT, environ=environ)
    began = time.monotonic()
    try:
        native.up(settings, without=["airflow"])
        print(f"\nready in {time.monotonic() - began:.1f} s beside another stack")
        yield settings
    finally:
        native.down(settings)
        assert processes.own(settings.stack.state) == []


def test_two_stacks_stand_side_by_side(stack: Settings, second: Settings) -> None:
    mine, other = statuses(stack), statuses(second)
    assert len(other) == PARTS <= len(mine)
    assert all(part.healthy for part in (*mine.values(), *other.values()))
    assert not {part.pid for part in mine.values()} & {part.pid for part in other.values()}


def test_idle_it_takes_at_most_three_gigabytes(second: Settings) -> None:
    rss = {name: part.rss for name, part in statuses(second).items()}
    print("\n" + "".join(f"{name:<20}{size / 1e6:6,.0f} MB\n" for name, size in rss.items()), end="")
    assert 0 < sum(rss.values()) < 3e9
