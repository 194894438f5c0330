"""Airflow's and Flink's pages in headless Chromium, by the ports and the password that a user of this machine has.

`--write-images` writes the pictures of docs/compose.md anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..airflow import Api, browser, log_in
from ..airflow_pages import Pages
from .stack import ROOT, Compose

NAME = "airport_delays"
OWN = f"penstock.{NAME}"
JOBS = (OWN, "penstock.carrier_daily", "penstock.flights_raw")


@pytest.fixture(scope="module")
def pages(flown: Compose, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """A browser in which the admin has logged in with the password of `.env`."""
    images = ROOT / "docs/images" if request.config.getoption("--write-images") else None
    with browser() as page:
        found = Pages(page, Api(flown.airflow()), tmp_path_factory.mktemp("pictures"), images)
        log_in(page, found.api.access)
        yield found


@pytest.fixture(scope="module")
def run(pages: Pages) -> dict[str, Any]:
    """A run of a pipeline's own DAG, begun by its button."""
    return pages.trigger(OWN, timeout=900)


def test_airflow_has_the_shipped_pipelines_ready(pages: Pages) -> None:
    for dag in (*JOBS, "penstock_replay", "penstock_upgrade"):
        pages.api.await_dag(dag)
    pages.open("/dags")
    pages.read(*JOBS, "penstock_replay")
    pages.picture("compose-airflow-dags")


def test_a_dag_begun_in_the_browser_proves_the_figures(pages: Pages, run: dict[str, Any]) -> None:
    assert run["state"] == "success"
    pages.see_run(run, "start")
    pages.read("nothing to do")
    pages.see_run(run, "verify")
    pages.read(f"{NAME}: equal")
    pages.picture("compose-airflow-verify")


def test_airflows_links_lead_to_this_machines_ports(flown: Compose, pages: Pages, run: dict[str, Any]) -> None:
    job, supervisor = (
        pages.api.links(run, task)[name] for task, name in (("start", "Flink job"), ("supervisor", "Druid"))
    )
    assert job and job.startswith(f"http://127.0.0.1:{flown.ports['FLINK']}/"), job
    assert supervisor and supervisor.startswith(f"http://127.0.0.1:{flown.ports['DRUID_COORDINATOR']}/"), supervisor
    pages.page.get(job)
    pages.read(OWN, "RUNNING")
    pages.picture("compose-flink-job")


def test_flink_shows_the_jobs_and_takes_no_program(flown: Compose, pages: Pages) -> None:
    pages.page.get(f"http://127.0.0.1:{flown.ports['FLINK']}/#/overview")
    pages.read("Running Job List", *JOBS)
    assert "Submit New Job" not in pages.text()
    pages.picture("compose-flink-jobs")
