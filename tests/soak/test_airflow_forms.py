"""The lifecycle as a user clicks through it: Airflow's own pages, its scheduler, and real data under them.

The tests are one story, in file order.  `--write-images` writes the pictures of docs/airflow.md anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.common.by import By

from penstock.services.druid import Druid
from penstock.settings import Settings

from ..airflow import Api, browser, log_in, see
from ..airflow_pages import Pages, field
from ..cli import ROOT, Cli
from .shipped import EXAMPLES, serve_dags, ship

pytestmark = [pytest.mark.e2e, pytest.mark.native]

NAME = "airport_delays"
OWN = f"penstock.{NAME}"
#: Two days of the flights' first week, and one whose windows are still open when they are written.
DAYS, OPEN = ("2013/01/03", "2013/01/05"), ("2013/01/06", "2013/01/10")
#: So many are reported late; each is in twelve windows.
LATE = 600
COUNT = f'SELECT SUM("_rows") AS "n" FROM "{NAME}"'


@pytest.fixture(scope="module")
def shipped(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A project of the shipped jobs and DAGs, and the user's DAG of docs/airflow.md."""
    made = ship(stack, tmp_path_factory.mktemp("shipped"))
    dags = made.project / "dags"
    (dags / "my_report.py").write_text(EXAMPLES[1].replace("carrier_daily", NAME), encoding="utf-8")
    serve_dags(stack, dags)
    return made


@pytest.fixture(scope="module")
def pages(shipped: Cli, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A browser in which the admin has logged in with the generated password."""
    # Not before the project's own DAGs are in place: as an argument, the session's fixture would come first.
    airflow: Settings = request.getfixturevalue("airflow")
    images = ROOT / "docs/images" if request.config.getoption("--write-images") else None
    with browser() as page:
        found = Pages(page, Api(airflow), tmp_path_factory.mktemp("pictures"), images)
        log_in(page, found.api.access)
        yield found


def served(cli: Cli) -> int:
    (row,) = Druid(cli.stack.env.druid).sql(COUNT)
    return int(row["n"] or 0)


def test_the_dags_are_there_and_no_file_is_broken(pages: Pages) -> None:
    for dag in (OWN, "penstock_replay", "penstock_upgrade", "my_report"):
        pages.api.await_dag(dag)
    assert pages.api.get("/importErrors")["import_errors"] == []
    pages.open("/dags")
    pages.read(OWN, "penstock_replay", "penstock_upgrade")


def test_a_pipeline_is_made_by_its_own_dag(pages: Pages, shipped: Cli) -> None:
    run = pages.trigger(OWN)
    pages.see_run(run)
    pages.read("Success")
    assert run["state"] == "success"
    assert json.loads(shipped.run("status", NAME, "--json"))["job"]["state"] == "RUNNING"
    shipped.run("produce", "flights", "--limit", "6000")


def test_run_again_it_changes_nothing_and_says_so(pages: Pages, shipped: Cli) -> None:
    before = json.loads(shipped.run("status", NAME, "--json"))["job"]
    run = pages.trigger(OWN)
    assert run["state"] == "success"
    pages.see_run(run)
    pages.read("Success")
    for task in ("topics", "supervisor", "start"):
        pages.see_run(run, task)
        pages.read("nothing to do")
    pages.see_run(run, "verify")
    pages.read(f"{NAME}: equal")
    pages.picture("airflow-verify")
    assert json.loads(shipped.run("status", NAME, "--json"))["job"]["id"] == before["id"]


@pytest.fixture(scope="module")
def late(pages: Pages, shipped: Cli) -> Cli:
    """Flights of the third and fourth of January which are reported after the sixth."""
    shipped.produce(LATE, start="2013-01-03T06:00", step=200_000, seed=1)
    (ledger,) = shipped.verify(NAME)
    assert ledger["equal"] and ledger["late"] >= LATE, ledger
    return shipped


def more(pages: Pages) -> int:
    """Return how many events more a receipt on the page tells."""
    found = re.search(r"segments (?:would change|changed), \+([\d,]+) events", pages.text())
    assert found, pages.text()
    return int(found[1].replace(",", ""))


def fill(pages: Pages, first: str, last: str, *, dry: bool = False) -> None:
    pages.choose("Pipeline", NAME)
    pages.pick("From", first)
    pages.pick("To", last)
    if dry:
        pages.tick("Dry run")
    pages.write("Reason", "late reports")


def test_a_dry_run_by_the_form_publishes_nothing(pages: Pages, late: Cli) -> None:
    before = served(late)

    def filled() -> None:
        fill(pages, *DAYS, dry=True)
        pages.picture("airflow-replay-form", zoom=0.8)

    run = pages.trigger("penstock_replay", filled)
    pages.see_run(run)
    pages.read("Success")
    assert (run["state"], run["conf"]["dry_run"]) == ("success", True)
    pages.see_run(run, "receipt")
    pages.read(f"{NAME}: dry run, nothing published: 2 of 2 segments would change")
    assert (more(pages) >= LATE * 12, served(late)) == (True, before)


def test_no_other_pipeline_can_be_chosen(pages: Pages) -> None:
    pages.form("penstock_replay")
    see(pages.page, By.XPATH, f"{field('Pipeline')}//input").send_keys("absent")
    pages.read("No options")


def watch_report(pages: Pages) -> set[str]:
    """Let the user's DAG run by itself, by the switch of its page; return the runs that it has had."""
    pages.open("/dags/my_report")
    see(pages.page, By.XPATH, "//*[@data-testid='toggle-pause']")
    if pages.api.get("/dags/my_report")["is_paused"]:
        pages.click(By.XPATH, "//*[@data-testid='toggle-pause']")
        pages.read("my_report")
    return {run["dag_run_id"] for run in pages.runs("my_report")}


def test_a_replay_by_the_form_heals_what_was_late_and_wakes_a_dag(pages: Pages, late: Cli) -> None:
    before, reports = served(late), watch_report(pages)
    run = pages.trigger("penstock_replay", lambda: fill(pages, *DAYS))
    assert run["state"] == "success"
    pages.see_run(run)
    pages.read("Success")
    pages.picture("airflow-replay")
    (ledger,) = late.verify(NAME)
    assert ledger["equal"] and sum(segment["healed"] for segment in ledger["segments"]) >= LATE

    pages.see_run(run, "receipt")
    pages.read(f"{NAME}: published and checked: 2 of 2 segments changed", "rows recomputed from the log by DuckDB")
    pages.picture("airflow-receipt")
    assert served(late) == before + more(pages) and more(pages) >= LATE * 12

    woken = pages.ended("my_report", reports)
    assert (woken["run_type"], woken["state"]) == ("asset_triggered", "success")
    pages.see_run(woken, tab="asset_events")
    pages.read("Asset Triggered", "Success", f"druid://native/{NAME}")
    pages.picture("airflow-asset")


@pytest.mark.parametrize(("first", "last"), [(DAYS[1], DAYS[0]), OPEN], ids=["to before from", "still open"])
def test_a_wrong_form_is_answered_in_the_command_lines_words(pages: Pages, late: Cli, first: str, last: str) -> None:
    run = pages.trigger("penstock_replay", lambda: fill(pages, first, last))
    assert run["state"] == "failed"
    told = late.call("replay", NAME, "--from", run["conf"]["from"], "--to", run["conf"]["to"])
    assert told.returncode in (2, 3)
    pages.see_run(run, "begin")
    pages.read("ERROR - " + next(line for line in told.stderr.splitlines() if line.startswith("error: "))[7:])
    if told.returncode == 3:
        # The stack trace's lines are Airflow's own, and name this machine's folders.
        pages.page.execute_script("for (const it of document.querySelectorAll('details[open]')) it.open = false")
        pages.picture("airflow-refused")


def test_an_upgrade_by_the_form_computes_the_past_by_the_new_logic(pages: Pages, late: Cli) -> None:
    job = late.project / "jobs" / f"{NAME}.py"
    text = job.read_text(encoding="utf-8")
    old = '"delay_min_max": "MAX(delay_min)"}'
    assert old in text
    job.write_text(text.replace(old, old[:-1] + ', "miles": "SUM(distance_mi)"}'), encoding="utf-8")

    def filled() -> None:
        pages.choose("Pipeline", NAME)
        pages.pick("Replay from", DAYS[0])
        pages.write("Reason", "miles are asked for")
        pages.write("Allow", "unhealed")

    run = pages.trigger("penstock_upgrade", filled)
    pages.see_run(run)
    assert run["state"] == "success"
    pages.see_run(run, "upgrade")
    pages.read("published and checked")
    assert "nothing to do" in late.run("upgrade", NAME)


def test_the_status_of_a_pipeline_shows_its_runs(pages: Pages, late: Cli) -> None:
    runs: list[dict[str, Any]] = json.loads(late.run("status", NAME, "--json"))["runs"]
    assert [run["dag"] for run in runs[:1]] == ["penstock_upgrade"]
    assert {run["state"] for run in runs} >= {"success", "failed"}
    page = late.run("status", NAME)
    assert all(word in page for word in ("penstock_upgrade", "penstock_replay", "success", "failed"))
    print(page)


def test_flinks_own_page_shows_the_job(pages: Pages, late: Cli) -> None:
    pages.page.get(f"{late.stack.env.flink.rest}/#/overview")
    pages.read("Running Jobs", f"penstock.{NAME}")
    pages.picture("flink-jobs")
