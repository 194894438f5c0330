"""What is in the way: a service that is down, two applies at once, a part that is killed in mid-run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from penstock import stack as native
from penstock.stack.layout import layout
from penstock.stack.manager import Manager
from penstock.stack.parts import left_out
from penstock.wait import Pending, until

from ..cli import Cli

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def room(flights: Cli) -> None:
    """Take the flights' jobs away, if they are there: the stack has slots for four pipelines."""
    for name in ("airport_delays", "carrier_daily", "flights_raw"):
        flights.call("remove", name)


@pytest.mark.native
@pytest.mark.parametrize(("part", "words"), [("flink-jobmanager", "Flink"), ("druid-coordinator", "Druid")])
def test_a_service_that_is_down_is_named_and_nothing_is_half_done(shop: Cli, part: str, words: str) -> None:
    manager = Manager(layout(shop.stack))
    manager.stop_part(part)
    until(part, lambda: manager.infos()[part].state == "stopped" or Pending("stops"), timeout=60)
    try:
        refused = shop.call("apply")
    finally:
        manager.start_part(part)
        native.up(shop.stack, without=left_out(shop.stack))  # Airflow stays out: it would take from all that follow
    assert refused.returncode == 5
    assert words in refused.stderr and "http://127.0.0.1:" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.native
def test_kafka_down_is_named(shop: Cli) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "--project", str(shop.project), "plan"],
        env=shop.environ | {"PENSTOCK_PORT_BASE": "1100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 5
    assert "Kafka at 127.0.0.1:1192 can't be reached" in done.stderr


def test_two_applies_at_once_do_it_once(shop: Cli) -> None:
    outcomes = []

    def apply() -> None:
        outcomes.append(shop.call("apply"))

    threads = [threading.Thread(target=apply) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    codes = sorted(done.returncode for done in outcomes)
    assert codes in ([0, 3], [0, 0]), [done.stderr for done in outcomes]
    if codes == [0, 3]:
        (refused,) = [done for done in outcomes if done.returncode]
        assert f"{shop.stack.env.name} is being changed by" in refused.stderr, refused.stderr
    assert "nothing to do" in shop.run("apply")


@pytest.mark.native
def test_a_killed_taskmanager_loses_and_repeats_nothing(shop: Cli) -> None:
    """The drills of `make soak` kill every part under ten times this load."""
    settings = shop.stack
    failure: list[BaseException] = []

    def produce() -> None:
        try:
            shop.produce(
                60_000, "--idle", "2", late=0.05, malformed=0.01, rate=3000, seed=7, start="2024-02-01", step=20
            )
        except BaseException as error:
            failure.append(error)

    sender = threading.Thread(target=produce)
    sender.start()
    time.sleep(8)
    (part,) = [one for one in native.status(settings) if one.name == "flink-taskmanager"]
    assert part.pid is not None
    os.kill(part.pid, signal.SIGKILL)
    sender.join(timeout=300)
    assert not failure, failure
    for ledger in shop.verify():
        assert ledger["equal"], ledger["differences"]
        assert ledger["rows_compared"] > 0
