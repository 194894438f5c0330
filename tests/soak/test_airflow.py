"""Airflow on the native stack: who can reach it, that its tasks find the stack, and its pages in a browser."""

from __future__ import annotations

import os
import signal
import stat

import psutil
import pytest
from selenium.webdriver.common.by import By

from penstock import stack as native
from penstock.settings import Settings
from penstock.stack import PartStatus, processes
from penstock.stack.airflow import SECRETS
from penstock.stack.layout import layout
from penstock.wait import Pending, until

from ..airflow import Api, browser, log_in, see

pytestmark = [pytest.mark.e2e, pytest.mark.native]


def healthy(settings: Settings, *, but: tuple[str, int] | None = None) -> dict[str, PartStatus]:
    """Wait until every part is healthy, and the part `but` has another process than the one given."""

    def probe() -> dict[str, PartStatus] | Pending:
        found = {part.name: part for part in native.status(settings)}
        waits = [f"{part.name} ({part.health})" for part in found.values() if not part.healthy]
        same = but is not None and found[but[0]].pid in (None, but[1])
        return Pending(f"waiting for {', '.join(waits) or 'the new process'}") if waits or same else found

    return until("the stack", probe, timeout=240)


def test_the_whole_stack_is_healthy_and_takes_less_than_five_gigabytes(airflow: Settings) -> None:
    found = healthy(airflow)
    assert {name for name in found if name.startswith("airflow-")} == {
        "airflow-api-server",
        "airflow-scheduler",
        "airflow-dag-processor",
        "airflow-triggerer",
    }
    print("\n" + "".join(f"{part.name:<24}{part.rss / 1e6:6,.0f} MB\n" for part in found.values()), end="")
    assert 0 < sum(part.rss for part in found.values()) < 5e9


def test_nothing_of_it_listens_beyond_this_machine(airflow: Settings) -> None:
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for process in processes.own(airflow.stack.state)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert ("127.0.0.1", airflow.stack.port("airflow_api")) in listening
    assert {ip for ip, _ in listening} <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_only_the_generated_password_lets_in(airflow: Settings) -> None:
    api = Api(airflow)
    assert api.login("admin").status_code == 401
    home = layout(airflow).airflow
    assert {stat.S_IMODE((home / name).stat().st_mode) for name in SECRETS} == {0o600}
    logs = "".join(file.read_text(errors="replace") for file in layout(airflow).logs.glob("airflow-*.log"))
    assert api.access.password not in logs


def test_a_task_finds_its_stack_and_project(airflow: Settings) -> None:
    api = Api(airflow)
    run = api.run("stack_probe")
    assert run["state"] == "success", api.log(run, "look")
    found = api.result(run, "look")
    assert found["state"] == str(airflow.stack.state)
    assert found["topics"] == 0
    assert found["check"].endswith("no mistakes")


def test_its_pages_show_the_dags(airflow: Settings) -> None:
    api = Api(airflow)
    api.await_dag("stack_probe")
    with browser() as page:
        log_in(page, api.access)
        page.get(f"{api.access.url}/dags")
        see(page, By.LINK_TEXT, "stack_probe")
        page.save_screenshot(str(airflow.stack.state / "dags.png"))


@pytest.mark.parametrize("part", ["airflow-scheduler", "airflow-api-server"])
def test_a_killed_part_comes_back(airflow: Settings, part: str) -> None:
    before = next(item for item in native.status(airflow) if item.name == part)
    assert before.pid
    os.kill(before.pid, signal.SIGKILL)
    healthy(airflow, but=(part, before.pid))
    assert Api(airflow).run("stack_probe")["state"] == "success"
