"""Each of Airflow's operators on the real services: killed at its call, cleared, and under every fault.

The cells are the life of one small pipeline, in order.  A task's process is killed with -9 before its remote call, amid
it, and when its work is done but not noted; then it is run to its end, and cleared and run once more: that changes
nothing, and there is one job, one supervisor, one replay.  Then all operators are run in a row without Kafka, Flink or
Druid, as a user whom they refuse, and with a deadline that passes.  The single steps of a replay, and an upgrade with
one, are killed in test_dags.py.

    pytest -s tests/soak/test_operators.py                  all of it, and docs/airflow-faults.md
    pytest -s tests/soak/test_operators.py -k "stop"        some cells: the newest outcome of each is on the page
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from penstock.lock import environment_lock
from penstock.services.flink import Flink
from penstock.settings import Settings
from penstock.stack.layout import layout
from penstock.stack.manager import Manager
from penstock.wait import Pending, until

from ..cli import ROOT
from .proxy import NAME, PASSWORD, Proxy
from .visits import FILE, PIPELINE, Stage, make

pytestmark = [pytest.mark.e2e, pytest.mark.native]

KAFKA, FLINK, DRUID = "penstock.services.kafka:Kafka", "penstock.services.flink:Flink", "penstock.services.druid:Druid"
#: What is stopped for a fault.
PARTS = {
    "Kafka down": ("kafka",),
    "Flink down": ("flink-jobmanager",),
    "Druid down": ("druid-coordinator", "druid-broker"),
}
REFUSED, DEADLINE, KILLED = "user refused", "deadline passed", "killed, cleared"
FAULTS = (*PARTS, REFUSED, DEADLINE, KILLED)
#: The newest outcome of each cell that passed: one can be run again alone.
KEPT = ROOT / ".penstock" / "airflow-faults.json"
DONE, FAILS, AGAIN = "done", "fails", "tries again"


@dataclass(frozen=True)
class Row:
    """An operator: whose `act` it is, its remote call, what is made ready for it, what its value is when run once more.

    `spares` are the faults that it does not notice, `may` those that it may not notice; `waits` is whether it waits for
    something with a deadline of 1 s; `done` is what has ended when all is done, if not its `act`.
    """

    act: str
    call: str
    ready: Callable[[Stage], None] = lambda stage: None
    again: Callable[[Any], bool] = lambda value: value["changed"] is False
    spares: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    waits: bool = False
    done: str = ""

    @property
    def deaths(self) -> tuple[tuple[str, str], ...]:
        done = self.done or f"penstock.airflow.operators.{self.act}.act"
        return (("before", self.call), ("amid", self.call), ("after", done))


def _named(value: Any) -> bool:
    return bool(re.match("visits-2026.*", value))


_NO_JOB = ("Kafka down", "Flink down")
ROWS = {
    "topics": Row("kafka:KafkaTopicsOperator", f"{KAFKA}.create_topic", waits=True),
    "supervisor": Row("druid:DruidSupervisorOperator", f"{DRUID}.post_supervisor", waits=True),
    "start": Row("flink:FlinkStartOperator", "penstock.flink.submit:submit", waits=True),
    "healthy": Row("upkeep:HealthOperator", f"{FLINK}.overview", Stage.live, lambda value: value == "healthy"),
    "verify": Row(
        "upkeep:VerifyOperator", f"{KAFKA}.read_arrow", Stage.live, lambda it: it["rows_compared"] > 0, ("Flink down",)
    ),
    "diff": Row(
        "druid:DruidSupervisorOperator", f"{DRUID}.supervisors", Stage.live, lambda value: value["changes"] == 0
    ),
    "begin": Row("replay:ReplayBeginOperator", "penstock.replay.record:Replays.write", Stage.live, _named),
    "receipt": Row(
        "replay:ReplayStepOperator",
        f"{DRUID}.submit_task",
        Stage.live,
        lambda value: "published and checked" in value,
        waits=True,
    ),
    "index": Row("druid:DruidIndexOperator", f"{DRUID}.submit_task", Stage.live, spares=_NO_JOB, waits=True),
    # It asks Druid only where something is left to be repaired.
    "repair": Row("replay:RepairOperator", f"{DRUID}.submit_task", Stage.late, may=("Druid down",)),
    "compact": Row("upkeep:MaintenanceOperator", f"{DRUID}.submit_task", Stage.fragments, lambda value: len(value) < 2),
    "rules": Row("upkeep:MaintenanceOperator", f"{DRUID}.set_rules", Stage.rules, lambda value: value == []),
    "delete": Row("upkeep:MaintenanceOperator", "shutil:rmtree", Stage.rubbish, lambda value: value == []),
    "report": Row(
        "upkeep:MaintenanceOperator", f"{KAFKA}.read", Stage.live, lambda value: "late" in value[0], ("Druid down",)
    ),
    "watch": Row(
        "upkeep:WatchOperator",
        f"{FLINK}.overview",
        Stage.live,
        lambda value: value == "healthy",
        done="penstock.airflow.triggers:HealthTrigger.report",
    ),
    "suspend": Row("druid:DruidSupervisorOperator", f"{DRUID}.suspend", Stage.live, spares=_NO_JOB, waits=True),
    # Druid asks for the topic's partitions: sometimes before it answers.
    "resume": Row(
        "druid:DruidSupervisorOperator", f"{DRUID}.resume", spares=("Flink down",), may=("Kafka down",), waits=True
    ),
    "stop": Row(
        "flink:FlinkStopOperator", f"{FLINK}.stop_with_savepoint", Stage.live, spares=("Druid down",), waits=True
    ),
    "restart": Row("flink:FlinkStartOperator", "penstock.flink.submit:submit", waits=True),
    "cancel": Row("flink:FlinkStopOperator", f"{FLINK}.cancel", Stage.live, spares=("Druid down",), waits=True),
    "upgrade": Row(
        "upgrade:FlinkUpgradeOperator",
        "penstock.flink.submit:submit",
        Stage.another,
        spares=("Flink down",),
    ),
}


@pytest.fixture(scope="module")
def stage(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A project of one pipeline that is not applied yet, and an Airflow over it."""
    env = stack.env
    proxies = [Proxy(url) for url in (env.flink.rest, env.druid.coordinator, env.druid.broker)]
    flink, coordinator, broker = (proxy.address() for proxy in proxies)
    asked = {"flink": {"rest": flink}, "druid": {"coordinator": coordinator, "broker": broker}}
    sasl = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
    sasl |= {"sasl.username": NAME, "sasl.password": PASSWORD}
    connections = {
        "AIRFLOW_CONN_REFUSED": {"login": NAME, "password": "wrong", "extra": asked},
        "AIRFLOW_CONN_ALLOWED": {"login": NAME, "password": PASSWORD, "extra": asked},
        "AIRFLOW_CONN_SASL": {"extra": {"kafka": {"client": sasl}}},
    }
    more = {name: json.dumps({"conn_type": "penstock", **held}) for name, held in connections.items()}
    made = make(stack, tmp_path_factory.mktemp("visits"), more)
    made.airflow.migrate()
    yield made
    for proxy in proxies:
        proxy.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ROWS)
def test_killed_at_its_call_and_cleared_there_is_one_of_each(stage: Stage, name: str) -> None:
    row, dag, at = ROWS[name], f"life.{name}", stage.at()
    row.ready(stage)
    began = time.monotonic()
    for moment, call in row.deaths:
        stage.airflow.die_at(moment, call, FILE, dag, at)
    for _ in range(2):
        done = stage.airflow.run(FILE, dag, at)
        assert done["state"] == "success", done["log"][-3000:]
        if name == "begin":  # to be gone on with
            assert list(stage.services.replays.read()) == [done["values"]["begin.return_value"]]
        else:
            stage.one_of_each()
    value = done["values"][f"{name}.return_value"]
    assert row.again(value), value
    stage.abandon()
    keep(KILLED, {name: "one of each"})
    print(f"\n{name}: killed three times and run twice in {time.monotonic() - began:.0f} s", flush=True)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", PARTS)
def test_without_a_service_each_says_so_and_is_tried_again(stage: Stage, fault: str) -> None:
    stage.live()
    stage.hold()
    manager = Manager(layout(stage.shop.stack))
    for name in PARTS[fault]:
        manager.stop_part(name)
    until(fault, lambda: all(manager.infos()[it].state == "stopped" for it in PARTS[fault]) or Pending(""), timeout=60)
    try:
        found = stage.row("down", fault)
    finally:
        for name in PARTS[fault]:
            manager.start_part(name)
    stage.forgot |= "flink-jobmanager" in PARTS[fault]
    stage.parts()
    stage.abandon()
    stage.live()
    stage.one_of_each()
    for name, told in found.items():
        service = fault.split()[0]
        row, words = ROWS[name], told["words"]
        assert told["what"] in ([DONE] if fault in row.spares else [DONE, AGAIN] if fault in row.may else [AGAIN]), told
        if told["what"] == AGAIN:
            assert service in words or "not done by its deadline" in words, (name, told)
    keep(fault, {name: told["what"] for name, told in found.items()}, found)


@pytest.mark.timeout(600)
def test_a_user_who_is_refused_is_told_at_once_and_one_who_is_not_goes_on(stage: Stage) -> None:
    stage.live()
    stage.hold()
    found = stage.row("refused", REFUSED)
    stage.abandon()
    stage.live()
    for name, told in found.items():
        # The watch is asked again by its schedule, not by a retry: what it finds may pass.
        want = (AGAIN, 2) if name == "watch" else (FAILS, 1)
        assert (told["what"], told["try"]) == want and "refused" in told["words"], (name, told)
        assert "wrong" not in told["words"]
    for dag in ("allowed", "sasl"):
        log = stage.airflow.run(FILE, dag, stage.at())["log"]
        told = [json.loads(line.partition("@told ")[2]) for line in log.splitlines() if "@told " in line]
        assert {it["what"] for it in told} == {DONE if dag == "allowed" else FAILS}, told
        assert dag == "allowed" or all("refused access" in it["words"] for it in told), told
    stage.one_of_each()
    keep(REFUSED, {name: told["what"] for name, told in found.items()}, found)


@pytest.mark.timeout(600)
def test_at_its_deadline_it_ends(stage: Stage) -> None:
    stage.live()
    stage.hold()
    with environment_lock(stage.settings, "apply"):
        found = stage.row("late", DEADLINE)
    stage.abandon()
    for name, told in found.items():
        if ROWS[name].waits:
            assert told["what"] == AGAIN and "not done by its deadline" in told["words"], (name, told)
            # An indexing task takes no lock, and a replay not before its publication.
            assert name in ("index", "receipt") or "is being changed by `penstock apply`" in told["words"], (name, told)
        else:
            assert told["what"] == DONE or "deadline" in told["words"], (name, told)
    stage.one_of_each()
    (batch,) = [it for it in stage.tasks() if it["type"] == "noop"]
    assert batch["statusCode"] == "FAILED" and batch["duration"] < 60_000, "cancelled, as nobody else needs it"
    keep(DEADLINE, {name: told["what"] for name, told in found.items()}, found)


@pytest.mark.timeout(600)
def test_at_its_deadline_a_replays_job_is_cancelled(stage: Stage) -> None:
    stage.live()
    done = stage.airflow.run(FILE, "cut", stage.at())
    assert done["tasks"] == {"begin": "success", "compute": "failed"}
    assert "compute: not done by its deadline" in done["log"]
    replay = done["values"]["begin.return_value"]
    (job,) = [job for job in Flink(stage.shop.stack.env.flink).jobs() if job.name.endswith(f".{replay}")]
    assert job.state == "CANCELED", job
    stage.abandon()
    stage.one_of_each()


@pytest.mark.timeout(600)
def test_afterwards_the_ledger_closes(stage: Stage) -> None:
    """And the page is written, if every cell has an outcome."""
    stage.live()
    (ledger,) = stage.shop.verify(PIPELINE)
    assert ledger["equal"], ledger["differences"]
    known = kept()
    text = report(known)
    print(f"\n{text}")
    if all(name in known["cells"].get(fault, {}) for name in ROWS for fault in FAULTS):
        Path(ROOT / "docs/airflow-faults.md").write_text(text, encoding="utf-8")


def kept() -> dict[str, Any]:
    """Return the newest outcome of each cell, by fault and name, and the words by fault."""
    if not KEPT.exists():
        return {"cells": {}, "words": {}}
    found: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    return found


def keep(fault: str, outcomes: Mapping[str, str], found: Mapping[str, Any] | None = None) -> None:
    known, day = kept(), f"{datetime.now(UTC):%Y-%m-%d}"
    known["cells"].setdefault(fault, {}).update({name: [what, day] for name, what in outcomes.items()})
    if found is not None:
        lines: dict[str, str] = {}
        for told in found.values():
            # Its message, and what it says is to be done; once, whatever task, ids, ports and times are in it.
            line = "; ".join(part.strip() for part in told["words"].split("\n"))
            lines.setdefault(re.sub(r"^[a-z]+: (?=not done)|[0-9a-f]{8,}|\d+", "", line), line)
        known["words"][fault] = [line for line in lines.values() if line]
    KEPT.write_text(json.dumps(known, indent=1), encoding="utf-8")


def report(known: Mapping[str, Any]) -> str:
    """Return docs/airflow-faults.md."""
    cells = known["cells"]
    days = sorted({day for fault in cells.values() for _, day in fault.values()})
    lines = [
        "# Faults and Airflow's operators",
        "",
        f"Written by `make soak` on {' and '.join(days)}, {os.cpu_count()} cores: each operator on the real",
        "services. *Done* is one that has no need of what is down; *tries again* and *fails* (at once, as another try",
        "would end the same) are what Airflow is told. The deadline is one second, while another process holds the",
        "environment's lock: *done* is one that was done in time. *Killed, cleared*: its process was killed with -9",
        "before its remote call, amid it, and when all was done but not noted; then it was run, and run again, which",
        "changed nothing. There was one job, one supervisor, one replay or task, and no lock was left.",
        "",
        "| Operator | " + " | ".join(FAULTS) + " |",
        "| --- |" + " --- |" * len(FAULTS),
    ]
    for name, row in ROWS.items():
        told = [cells.get(fault, {}).get(name, ["-"])[0] for fault in FAULTS]
        lines.append(f"| {row.act.partition(':')[2]} ({name}) | " + " | ".join(told) + " |")
    lines += ["", "## In which words"]
    for fault in FAULTS:
        if words := known["words"].get(fault):
            lines += ["", f"{fault[0].upper()}{fault[1:]}:", "", *(f"- {line}" for line in words)]
    return "\n".join(lines) + "\n"
