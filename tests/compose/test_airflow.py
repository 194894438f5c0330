"""A replay through Airflow's API: first dry, which changes nothing, then in earnest, which counts what was late."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from ..airflow import Api
from ..compose_rules import MOST_MEMORY
from .stack import Clock, Compose, passed

PIPELINE = "airport_delays"


@pytest.fixture(scope="module")
def api(flown: Compose) -> Api:
    return Api(flown.airflow())


@pytest.fixture(scope="module")
def wanting(flown: Compose) -> dict[str, Any]:
    """The day of the pipeline that lacks the most late events."""
    ledger = next(it for it in flown.verify(PIPELINE) if it["pipeline"] == PIPELINE)
    found = max(ledger["segments"], key=lambda it: it["late"] - it["healed"])
    assert found["late"] > 0
    return dict(found)


def served(stack: Compose, segment: dict[str, Any]) -> int:
    sql = f"""SELECT SUM("_rows") AS n FROM "{PIPELINE}" WHERE __time >= TIMESTAMP '{segment["start"][:10]} 00:00:00'
              AND __time < TIMESTAMPADD(DAY, 1, TIMESTAMP '{segment["start"][:10]} 00:00:00')"""
    rows = json.loads(passed(stack.penstock("query", sql, "--json")))
    return int(rows[0]["n"])


def conf(segment: dict[str, Any], *, dry: bool) -> dict[str, Any]:
    day = segment["start"][:10]
    asked = {"from": f"{day}T00:00:00Z", "to": f"{day}T23:00:00Z"}  # widened to the whole day
    return {"pipeline": PIPELINE, **asked, "dry_run": dry, "rate": None, "reason": "compose-test"}


def replayed(api: Api, segment: dict[str, Any], *, dry: bool) -> dict[str, Any]:
    # A new DAG is paused; its form on the page lets it run, the API does not.
    api.pause("penstock_replay", False)
    run = api.run("penstock_replay", conf(segment, dry=dry), timeout=900)
    tasks = {
        it["task_id"]: it["state"]
        for it in api.get(f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances")["task_instances"]
    }
    assert run["state"] == "success", tasks
    return tasks


def test_every_dag_is_read_and_none_is_broken(api: Api) -> None:
    for dag in (f"penstock.{PIPELINE}", "penstock_replay", "penstock_upgrade", "penstock_maintenance"):
        api.await_dag(dag)
    assert api.get("/importErrors")["import_errors"] == []


def test_a_dry_run_publishes_nothing(flown: Compose, api: Api, wanting: dict[str, Any], clock: Clock) -> None:
    before, started = served(flown, wanting), time.monotonic()
    tasks = replayed(api, wanting, dry=True)
    clock.time("a replay by Airflow's API, dry", started)
    assert tasks["compute"] == tasks["verify"] == "success"
    assert tasks["publish"] == "skipped"
    assert served(flown, wanting) == before


def test_in_earnest_it_counts_what_was_late(flown: Compose, api: Api, wanting: dict[str, Any], clock: Clock) -> None:
    before, started = served(flown, wanting), time.monotonic()
    tasks = replayed(api, wanting, dry=False)
    clock.time("a replay by Airflow's API, published", started)
    used = flown.memory()
    clock.note("memory in use right after it, three pipelines running", f"{used:,.0f} MiB")
    assert used < MOST_MEMORY
    assert tasks["publish"] == tasks["receipt"] == "success"
    assert served(flown, wanting) == before + wanting["late"]
    ledger = flown.verify(PIPELINE)[0]
    healed = next(it for it in ledger["segments"] if it["start"] == wanting["start"])
    assert healed["healed"] == wanting["late"]


def test_on_the_host_a_replay_is_refused_with_the_line_that_works(flown: Compose, wanting: dict[str, Any]) -> None:
    day = wanting["start"][:10]
    done = flown.penstock("replay", PIPELINE, "--from", day, "--to", f"{day}T23:00Z", "--dry-run")
    assert done.returncode == 2
    assert "docker compose exec airflow-scheduler penstock" in done.stdout + done.stderr


def test_the_pipelines_own_dag_changes_nothing(flown: Compose, api: Api) -> None:
    api.pause(f"penstock.{PIPELINE}", False)
    run = api.run(f"penstock.{PIPELINE}", timeout=900)
    assert run["state"] == "success", api.get(f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances")
    assert api.result(run, "topics")["changed"] is False
    assert api.result(run, "supervisor")["changed"] is False


def test_no_secret_is_in_what_was_derived(flown: Compose) -> None:
    """Job, plan, supervisor, task and receipt: what Flink, Druid and Kafka keep and show names no password."""
    shown = [
        flown.run(
            "exec", "-T", "druid-coordinator", "wget", "-q", "-O", "-", f"http://127.0.0.1:8081/druid/indexer/v1/{path}"
        )
        for path in (f"supervisor/{PIPELINE}", "tasks")
    ]
    shown.append(
        flown.run(
            "exec",
            "-T",
            "airflow-scheduler",
            "bash",
            "-c",
            "cat /var/lib/penstock/plans/* /var/lib/penstock/plans/*/* 2> /dev/null || true",
        )
    )
    shown.append(passed(flown.penstock("plan", "--json")))
    assert all(text.strip() for text in shown), [len(text) for text in shown]
    found = [
        name for name, value in flown.secrets.items() if name.endswith("PASSWORD") and any(value in it for it in shown)
    ]
    assert found == []
