"""The DAGs on the real stack: made, proved, replayed; killed anywhere and cleared, there is one of each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from penstock.flink.spec import job_name
from penstock.services.druid import Druid
from penstock.services.flink import Flink

from ..cli import ROOT, Cli
from ..dag_runs import Airflow
from ..e2e.test_replay import make_room
from ..e2e.test_upgrade import changed

pytestmark = [pytest.mark.e2e, pytest.mark.native]

NAME = "clicks_hop"
PIPELINE = ("penstock_pipelines.py", f"penstock.{NAME}")
REPLAY = ("penstock_replay.py", "penstock_replay")
UPGRADE = ("penstock_upgrade.py", "penstock_upgrade")
START, END = "2024-06-01T00:00:00+00:00", "2024-06-01T01:00:00+00:00"


@pytest.fixture(scope="module")
def airflow(shop: Cli, flights: Cli, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    make_room(flights)
    for other in ("clicks_by_user", "clicks_raw", "clicks_tumble"):
        shop.call("remove", other)  # these tests are the last
    return over(shop, tmp_path_factory.mktemp("airflow"))


def over(shop: Cli, home: Path) -> Airflow:
    """Return an Airflow over a project, with the shipped DAGs."""
    if not (shop.project / "dags").exists():
        # Copies, as `penstock init` makes them: a file of DAGs is its own project's, wherever it is linked from.
        shutil.copytree(ROOT / "dags", shop.project / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    made = Airflow(shop, home)
    made.migrate()
    return made


def ours(airflow: Airflow, replay: str) -> list[str]:
    """Return the names of all bounded jobs of a replay that Flink knows."""
    return [job.name for job in Flink(airflow.cli.stack.env.flink).jobs() if job.name.endswith(f".{replay}")]


def tasks(airflow: Airflow, replay: str) -> list[str]:
    druid = Druid(airflow.cli.stack.env.druid)
    numbered = [f"penstock_replay_native_{replay}_{number}" for number in range(1, 5)]
    return [task for task in numbered if druid.task_state(task) is not None]


def test_a_pipeline_is_made_and_the_second_run_changes_nothing(airflow: Airflow) -> None:
    first = airflow.run(*PIPELINE, "2026-01-01T00:00")
    assert first["state"] == "success", first["tasks"]
    second = airflow.run(*PIPELINE, "2026-01-01T01:00")
    for name in ("topics", "supervisor", "start"):
        assert second["values"][f"{name}.return_value"]["changed"] is False
        assert "nothing to do" in second["values"][f"{name}.return_value"]["lines"][-1] or name == "start"
    assert second["values"]["healthy.return_value"] == "healthy"


def test_a_start_killed_as_it_is_submitted_and_cleared_is_one_job(airflow: Airflow) -> None:
    airflow.cli.call("stop", NAME)  # not there yet, where this test is run alone
    at = "2026-01-02T00:00"
    airflow.kill_at("submitting", *PIPELINE, at)
    assert airflow.run(*PIPELINE, at)["state"] == "success"
    name = job_name(airflow.cli.stream(NAME))
    live = [job for job in Flink(airflow.cli.stack.env.flink).jobs() if job.name == name and job.live]
    assert len(live) == 1


def test_a_replay_killed_in_its_steps_and_cleared_is_one_replay(airflow: Airflow) -> None:
    airflow.cli.produce(30_000, late=0.05, seed=11, start="2024-06-01T00:00Z", step=200)
    form: dict[str, Any] = {"pipeline": NAME, "from": START, "to": END, "reason": "a drill"}
    at = "2026-01-03T00:00"
    # Before its remote call, amid it, after it, and again about the publication.
    for words in ("penstock_replay.compute", "submitting", "end task task_id=compute", "penstock_replay.publish"):
        airflow.kill_at(words, *REPLAY, at, **form)
    done = airflow.run(*REPLAY, at, **form)
    assert done["state"] == "success", done["log"][-3000:]
    states = done["tasks"]
    assert {name for name, state in states.items() if state == "skipped"} == {"stop", "resume"}
    replay = done["values"]["begin.return_value"]
    assert len(ours(airflow, replay)) == 1
    assert tasks(airflow, replay) == [f"penstock_replay_native_{replay}_1"]
    again = airflow.run(*REPLAY, at, **form)
    assert f"replay {replay} was begun before; it is done" in again["log"]
    listed = json.loads(airflow.cli.run("replays", "--json"))
    assert [it["status"] for it in listed if it["id"] == replay] == ["done"]
    for ledger in airflow.cli.verify(NAME):
        assert ledger["equal"], ledger["differences"]


def test_an_upgrade_killed_and_cleared_is_one_upgrade(airflow: Airflow, tmp_path: Path) -> None:
    declared = changed(airflow.cli, tmp_path, ("where=\"page <> 'x'\"", "where=\"page <> 'page-1'\""))
    new = over(declared, tmp_path / "airflow")
    form: dict[str, Any] = {"pipeline": NAME, "replay_from": START, "reason": "a drill", "allow": "unhealed"}
    at = "2026-01-05T00:00"
    new.kill_at("submitting", *UPGRADE, at, **form)
    done = new.run(*UPGRADE, at, **form)
    assert done["state"] == "success", done["log"][-3000:]
    replay = done["values"]["upgrade.return_value"]["replay"]
    listed = [it for it in json.loads(declared.run("replays", NAME, "--json")) if it["handover"]]
    assert [(it["id"], it["status"]) for it in listed] == [(replay, "done")]
    assert "nothing to do" in declared.run("upgrade", NAME)
    live = [job.name for job in Flink(declared.stack.env.flink).jobs() if job.live and NAME in job.name]
    assert live == [job_name(declared.stream(NAME))] == [f"penstock.{NAME}.1"]


def test_a_wrong_form_is_refused_in_the_command_lines_words(airflow: Airflow) -> None:
    form = {"pipeline": NAME, "from": END, "to": START}
    done = airflow.run(*REPLAY, "2026-01-04T00:00", **form)
    told = airflow.cli.call("replay", NAME, "--from", END, "--to", START)
    assert done["tasks"]["begin"] == "failed"
    message = told.stderr.splitlines()[0].removeprefix("error: ")
    assert message in done["log"]
