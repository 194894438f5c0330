"""Open Kafka transactions: who holds one for too long, and their end.

A reader of committed records waits at the first open transaction of a partition.  One that a killed job left open
therefore stalls every reader until its timeout, which must be long (it has to outlast the longest restart).
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import DeclarationError, RefusedError, UnavailableError
from penstock.settings import KafkaSettings, Settings
from penstock.stack.kafka_storage import tool_command

#: Every transactional id of ours begins so.
PREFIX = "penstock-"


@dataclass(frozen=True)
class OpenTransaction:
    """A transaction that was begun and neither committed nor aborted."""

    transactional_id: str
    producer_id: int
    state: str


def open_transactions(
    settings: Settings, java: Path, *, prefix: str = PREFIX, older_than: float = 0.0
) -> list[OpenTransaction]:
    """Return the open transactions of ids that begin with `prefix`, begun more than `older_than` seconds ago.

    Asks by Kafka's own `kafka-transactions`, as no Python client lists transactions.  Raises UnavailableError.
    """
    words = ["org.apache.kafka.tools.TransactionsCommand", "--bootstrap-server", settings.env.kafka.bootstrap]
    if settings.env.kafka.client:
        words += ["--command-config", str(_client_file(settings))]
    words += ["list", "--duration-filter", str(int(older_than * 1000))]
    try:
        done = subprocess.run([*tool_command(settings, java), *words], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        raise UnavailableError("Kafka does not list its transactions within 60 s") from None
    if done.returncode != 0:
        raise UnavailableError(f"Kafka's transactions can't be listed: {(done.stderr or done.stdout).strip()[-500:]}")
    return [item for item in parse_list(done.stdout) if item.transactional_id.startswith(prefix)]


def parse_list(table: str) -> list[OpenTransaction]:
    """Read the tool's table: TransactionalId, Coordinator, ProducerId, TransactionState; open ones only."""
    rows = (re.split(r"\s*\t\s*|\s{2,}", line.strip()) for line in table.splitlines())
    return [
        OpenTransaction(row[0], int(row[2]), row[3])
        for row in rows
        if len(row) >= 4 and row[2].isdigit() and row[3] in ("Ongoing", "PrepareCommit", "PrepareAbort")
    ]


def _client_file(settings: Settings) -> Path:
    """Write the client properties where only their owner can read them, for a tool that takes no other way."""
    file = settings.home / "kafka-client.properties"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{key}={value}\n" for key, value in settings.env.kafka.client.items())
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        os.fchmod(out.fileno(), 0o600)  # it may be there already, open to others
        out.write(text)
    return file


def run_of(transactional_id: str) -> str:
    """Return the run in an id of ours: penstock-<env>-<pipeline>-<branch>-<run>-...; empty where it has none.

    The connector appends `-<subtask>-<number>` to the prefix, so it is counted from behind.
    """
    found = re.search(r"-([0-9a-f]{8})--?\d+-\d+$", transactional_id)
    return found[1] if found else ""


def abort_transactions(
    kafka: KafkaSettings, transactional_ids: Sequence[str], *, in_use: Collection[str], timeout: float = 30.0
) -> list[str]:
    """Abort the open transactions of these ids, and return the ids; an id with none open is left as it was.

    A producer that starts with an id fences the one before it, and the broker aborts what that had open.  Given the id
    of a job that runs or will be resumed, its next commit would fail, with data lost: `in_use` are the runs (the first
    8 digits of job ids) of those, and their transactions are refused with RefusedError; ids that are not ours with
    DeclarationError.
    """
    from confluent_kafka import KafkaException, Producer

    from penstock.services.kafka_client import client_properties, connect

    foreign = [item for item in transactional_ids if not item.startswith(PREFIX)]
    if foreign:
        raise DeclarationError([f"transactional id {item!r} does not begin with {PREFIX!r}" for item in foreign])
    owned = [item for item in transactional_ids if run_of(item) in in_use]
    if owned:
        raise RefusedError(
            f"{', '.join(owned)}: of a job that runs or will be resumed, which ends it; aborted, its rows were lost",
            hint="`penstock start` or `penstock apply` brings the job back; `penstock remove` gives it up",
        )
    for item in transactional_ids:
        producer = connect(Producer, {**client_properties(kafka), "transactional.id": item})
        try:
            producer.init_transactions(timeout)
        except KafkaException as error:
            raise UnavailableError(f"the transaction of {item} can't be aborted: {error.args[0].str()}") from None
    return list(transactional_ids)
