"""Airflow of the shared stack: its API and, through headless Chromium, its pages."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.expected_conditions import presence_of_element_located
from selenium.webdriver.support.ui import WebDriverWait

from penstock.settings import Settings
from penstock.stack.airflow import Access, access
from penstock.wait import Pending, until

#: The browser talks to nobody but the page, and leaves nothing behind.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,900",
)

#: Seconds; the first page is a megabyte of script, and the machine may be busy.
PATIENCE = 120


class Api:
    """Airflow's public API as its admin: of the native stack, or where `to` says."""

    def __init__(self, to: Settings | Access) -> None:
        found = to if isinstance(to, Access) else access(to)
        assert found is not None, "Airflow was not started"
        self.access = found
        self._client = httpx.Client(base_url=found.url, timeout=60, trust_env=False)
        self._token = self.login(found.password).raise_for_status().json()["access_token"]

    def login(self, password: str) -> httpx.Response:
        return self._client.post("/auth/token", json={"username": self.access.user, "password": password})

    def get(self, path: str, **params: Any) -> Any:
        return self._ask("GET", path, params=params)

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"}
        answer = self._client.request(method, f"/api/v2{path}", headers=headers, **more)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def await_dag(self, dag: str) -> None:
        """Wait until the DAG has been read from its file."""

        def read() -> bool | Pending:
            known = {item["dag_id"] for item in self.get("/dags", limit=100)["dags"]}
            if dag in known:
                return True
            errors = [item["stack_trace"] for item in self.get("/importErrors")["import_errors"]]
            return Pending(f"there are {sorted(known)}, import errors: {errors}")

        until(f"DAG {dag}", read, timeout=PATIENCE, interval=1)

    def run(self, dag: str, conf: dict[str, Any] | None = None, *, timeout: float = 300) -> dict[str, Any]:
        """Trigger a run, wait until it has ended, and return it."""
        return self.ended(self.begin(dag, conf), timeout=timeout)

    def begin(self, dag: str, conf: dict[str, Any] | None = None) -> dict[str, Any]:
        """Trigger a run and return it."""
        self.await_dag(dag)
        run: dict[str, Any] = self._ask("POST", f"/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf or {}})
        return run

    def ended(self, run: dict[str, Any], *, timeout: float = 300) -> dict[str, Any]:
        """Wait until a run has ended, and return it."""

        def over() -> dict[str, Any] | Pending:
            found: dict[str, Any] = self.get(_of(run))
            return found if found["state"] in ("success", "failed") else Pending(str(self.states(run)))

        return until(f"a run of {run['dag_id']}", over, timeout=timeout, interval=1)

    def pause(self, dag: str, paused: bool) -> None:
        """Turn the switch on a DAG's page."""
        self.await_dag(dag)
        self._ask("PATCH", f"/dags/{dag}", json={"is_paused": paused})

    def task(self, run: dict[str, Any], task: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(_of(run, task))
        return found

    def states(self, run: dict[str, Any]) -> dict[str, str | None]:
        """Return the state of each task of a run."""
        return {it["task_id"]: it["state"] for it in self.get(f"{_of(run)}/taskInstances")["task_instances"]}

    def mark(self, run: dict[str, Any], task: str, state: str) -> None:
        """Mark a task, as by the button of its page: what it does is ended."""
        self._ask("PATCH", _of(run, task), json={"new_state": state})

    def clear(self, run: dict[str, Any], task: str) -> None:
        """Clear a task and what comes after it, as by the button of its page: it is run again."""
        asked = {"dry_run": False, "only_failed": False, "dag_run_id": run["dag_run_id"], "task_ids": [task]}
        self._ask("POST", f"/dags/{run['dag_id']}/clearTaskInstances", json={**asked, "include_downstream": True})

    def connect(self, name: str, extra: dict[str, Any]) -> None:
        """Make a connection of type penstock, as by Airflow's form."""
        asked = {"connection_id": name, "conn_type": "penstock", "extra": json.dumps(extra)}
        self._ask("POST", "/connections", json=asked)

    def links(self, run: dict[str, Any], task: str) -> dict[str, str | None]:
        """Return the extra links that the page of a task shows."""
        found: dict[str, str | None] = self.get(f"{_of(run, task)}/links")["extra_links"]
        return found

    def result(self, run: dict[str, Any], task: str) -> Any:
        """Return what a task of a run has returned."""
        return self.get(f"{_of(run, task)}/xcomEntries/return_value")["value"]

    def log(self, run: dict[str, Any], task: str, number: int = 1) -> str:
        """Return what a try of a task has logged, by default its first."""
        lines = self.get(f"{_of(run, task)}/logs/{number}")["content"]
        # What a task died of is not part of the line that says so.
        return "\n".join(f"{line.get('event', line)} {line.get('error_detail', '')}".rstrip() for line in lines)


def _of(run: dict[str, Any], task: str = "") -> str:
    """Return the path of a run, or of one of its tasks."""
    return f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}" + (f"/taskInstances/{task}" if task else "")


@contextmanager
def browser() -> Iterator[WebDriver]:
    """Start Debian's Chromium with an empty profile; end it, and delete the profile."""
    driver, binary = shutil.which("chromedriver"), shutil.which("chromium")
    assert driver and binary, "no chromium and chromedriver on PATH: `make soak` installs or names them"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield found
        finally:
            found.quit()


def log_in(page: WebDriver, to: Access) -> None:
    """Fill in Airflow's form and wait for its first page."""
    page.set_page_load_timeout(PATIENCE)
    page.get(to.url)
    see(page, By.NAME, "username").send_keys(to.user)
    page.find_element(By.NAME, "password").send_keys(to.password)
    page.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
    see(page, By.CSS_SELECTOR, "a[href='/dags']")


def see(page: WebDriver, by: str, what: str) -> Any:
    """Return the element when it is there."""
    return WebDriverWait(page, PATIENCE).until(presence_of_element_located((by, what)))
