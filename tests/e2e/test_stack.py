"""The native stack itself: where it listens, what it holds, and that a killed part comes back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from penstock import stack as native
from penstock.settings import PORT_OFFSETS, Settings
from penstock.stack import PartStatus, java, processes
from penstock.stack.kafka_storage import tool_command
from penstock.stack.parts import left_out
from penstock.wait import Pending, until

pytestmark = [pytest.mark.e2e, pytest.mark.native]


def statuses(settings: Settings) -> dict[str, PartStatus]:
    return {part.name: part for part in native.status(settings)}


def test_nothing_listens_beyond_this_machine(stack: Settings) -> None:
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for process in processes.own(stack.stack.state)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {port for _, port in listening} >= {
        stack.stack.port(name) for name in PORT_OFFSETS if not name.startswith("airflow")
    }
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_second_up_changes_nothing(stack: Settings) -> None:
    before = {name: part.pid for name, part in statuses(stack).items()}
    began = time.monotonic()
    assert {part.name: part.pid for part in native.up(stack, without=left_out(stack))} == before
    assert time.monotonic() - began < 10


def test_doctor_is_content_with_a_running_stack(stack: Settings) -> None:
    failed = [str(check) for check in native.doctor(stack) if check.state == "failed"]
    assert failed == []
    assert {"transaction timeout", "transactions"} <= {check.name for check in native.doctor(stack)}


def test_the_transaction_version_is_pinned(stack: Settings) -> None:
    command = java.find(stack.stack)
    assert command is not None
    words = ["org.apache.kafka.tools.FeatureCommand", "--bootstrap-server", stack.env.kafka.bootstrap, "describe"]
    told = subprocess.run([*tool_command(stack, command), *words], capture_output=True, text=True, check=True).stdout
    assert re.search(r"Feature: transaction\.version\s.*FinalizedVersionLevel: 1\s", told), told


def test_an_open_transaction_is_found_and_ended(stack: Settings) -> None:
    """As a killed job leaves it: readers of committed records stand still until it is aborted."""
    command = java.find(stack.stack)
    assert command is not None
    servers, topic, held = stack.env.kafka.bootstrap, "stack.transactions.v1", "penstock-stack-test-0"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    abandoned = Producer({"bootstrap.servers": servers, "transactional.id": held, "transaction.timeout.ms": 600_000})
    abandoned.init_transactions(30)
    abandoned.begin_transaction()
    abandoned.produce(topic, b"never committed")
    abandoned.flush(30)
    plain = Producer({"bootstrap.servers": servers})
    plain.produce(topic, b"behind it")
    plain.flush(30)
    reader = Consumer({"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest"})
    reader.subscribe([topic])
    try:
        assert reader.poll(5) is None
        assert [item.transactional_id for item in native.open_transactions(stack, command)].count(held) == 1
        old = native.open_transactions(stack, command, older_than=3600)
        assert held not in {item.transactional_id for item in old}

        assert native.abort_transactions(stack.env.kafka, [held], in_use=()) == [held]
        record = reader.poll(30)
        assert record is not None
        assert record.value() == b"behind it"
        assert held not in {item.transactional_id for item in native.open_transactions(stack, command)}
    finally:
        reader.close()


@pytest.mark.parametrize(
    "killed",
    [
        ("flink-taskmanager", "druid-indexer"),
        ("flink-jobmanager", "druid-broker"),
        ("kafka", "druid-coordinator"),
        ("zookeeper",),
    ],
    ids=" ".join,
)
def test_killed_parts_come_back(stack: Settings, killed: tuple[str, ...]) -> None:
    """Two at a time, neither of which waits for the other."""
    before = statuses(stack)
    pids = [before[part].pid for part in killed]
    began = time.monotonic()
    for pid in pids:
        assert pid
        os.kill(pid, signal.SIGKILL)

    def back() -> bool | Pending:
        found = statuses(stack)
        waits = [item.name for item in found.values() if not item.healthy]
        old = [part for part in killed if found[part].pid in (None, before[part].pid)]
        return Pending(f"not healthy: {', '.join([*waits, *old])}") if waits or old else True

    until(" and ".join(killed), back, timeout=180)
    print(f"\n{', '.join(killed)}: the stack is healthy again after {time.monotonic() - began:.1f} s")
    for part in killed:
        assert statuses(stack)[part].restarts == before[part].restarts + 1


def test_the_log_of_a_part_is_where_status_says(stack: Settings) -> None:
    lines = list(native.logs(stack, "kafka", lines=10_000))
    assert any("Kafka Server started" in line or "KafkaRaftServer" in line for line in lines)
    assert Path(stack.stack.state / "logs" / "kafka.log").is_file()
