"""Kill each container in turn, while events flow: it comes back, and every figure holds.

Two ways: `docker kill`, after which Docker leaves it down by design and `up` brings it back; and its main process
killed under Docker, as by the kernel for memory, after which the restart policy alone must bring it back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from penstock.wait import Pending, until

from .stack import PATIENCE, ROOT, Clock, Compose, docker, passed

#: A year that the demo does not hold, so that a ledger over it reads what flows while containers are killed.
SINCE = "2014-01-01"
RATE = 50
#: The widest windows are a day's: 86 s of the flow.
FIRST_DAY = f"SELECT COUNT(*) AS n FROM \"carrier_daily\" WHERE __time >= TIMESTAMP '{SINCE}'"
SERVICES = (
    "zookeeper",
    "kafka",
    "postgres",
    "druid-coordinator",
    "druid-broker",
    "druid-historical",
    "druid-indexer",
    "druid-router",
    "flink-jobmanager",
    "flink-taskmanager",
    "airflow-api-server",
    "airflow-scheduler",
    "airflow-dag-processor",
    "airflow-triggerer",
)


@pytest.fixture(scope="module")
def flowing(flown: Compose, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Events of the flights' topic, late and broken ones among them, sent by `penstock` on the host until the end."""
    log = tmp_path_factory.mktemp("flow") / "produce.log"
    options = ["--count", "1000000", "--rate", str(RATE), "--start", SINCE, "--step", "20000"]
    faults = ["--disorder", "600", "--late", "0.02", "--malformed", "0.01", "--keys", "12"]
    command = [sys.executable, "-m", "penstock", "--env", "compose", "produce", "generate", "flights.departed.v1"]
    with log.open("w") as out:
        sender = subprocess.Popen([*command, *options, *faults], cwd=ROOT, env=flown.environ, stdout=out, stderr=out)

    def counted() -> bool | Pending:
        assert sender.poll() is None, log.read_text()
        rows = json.loads(passed(flown.penstock("query", FIRST_DAY, "--json")))
        return rows[0]["n"] > 0 or Pending("is open")

    # From here on a ledger has something to compare, however soon a container is back.
    until("the first day of what flows", counted, timeout=PATIENCE, interval=5)
    yield flown
    assert sender.poll() is None, f"the sender ended, exit {sender.returncode}: {log.read_text()[-2000:]}"
    sender.send_signal(signal.SIGINT)
    sender.wait(timeout=60)


def test_every_service_is_killed(flown: Compose) -> None:
    declared = set(flown.run("config", "--services").split())
    assert declared - set(SERVICES) == {"kafka-init", "airflow-init"}


@pytest.mark.parametrize("service", SERVICES)
def test_docker_kill_is_survived(flowing: Compose, clock: Clock, service: str) -> None:
    flowing.run("kill", "--signal", "SIGKILL", service)
    assert not flowing.inspect(service)["State"]["Running"]
    started = time.monotonic()
    flowing.up()
    clock.time(f"`docker kill` of {service}: `up --wait` to healthy", started)
    flowing.verify("--from", SINCE)


@pytest.mark.parametrize("service", SERVICES)
def test_a_crash_is_survived(flowing: Compose, clock: Clock, service: str) -> None:
    before = flowing.inspect(service)["State"]
    os.kill(int(before["Pid"]), signal.SIGKILL)
    started = time.monotonic()
    flowing.await_back(service, before["StartedAt"])
    clock.time(f"{service} killed under Docker: back by itself, healthy", started)
    flowing.verify("--from", SINCE)


def test_coordinator_and_indexer_are_killed_together(flowing: Compose, clock: Clock) -> None:
    """The tasks of both lives have one id: no file that the first has left may be counted again."""
    pair = ("druid-coordinator", "druid-indexer")
    names = [flowing.inspect(service)["Id"] for service in pair]
    docker("kill", *names)
    started = time.monotonic()
    flowing.up()
    clock.time("coordinator and indexer killed together: `up --wait` to healthy", started)
    flowing.verify("--from", SINCE)


def test_all_of_it_is_killed_at_once(flowing: Compose, clock: Clock) -> None:
    flowing.run("kill", "--signal", "SIGKILL", *SERVICES)
    started = time.monotonic()
    flowing.up()
    clock.time("every container killed at once: `up --wait` to healthy", started)
    flowing.verify("--from", SINCE)


def test_the_whole_year_is_as_it_was(flowing: Compose) -> None:
    flowing.verify("--to", SINCE)


def test_nothing_was_killed_for_memory(flowing: Compose) -> None:
    killed = [service for service in SERVICES if flowing.inspect(service)["State"]["OOMKilled"]]
    assert killed == []
