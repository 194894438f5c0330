"""Airflow of the shared stack: its API and, through headless Chromium, its pages."""

from __future__ import annotations

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
        self.await_dag(dag)
        run = self._ask("POST", f"/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf or {}})

        def ended() -> dict[str, Any] | Pending:
            found: dict[str, Any] = self.get(f"/dags/{dag}/dagRuns/{run['dag_run_id']}")
            return found if found["state"] in ("success", "failed") else Pending(found["state"])

        return until(f"a run of {dag}", ended, timeout=timeout, interval=1)

    def result(self, run: dict[str, Any], task: str) -> Any:
        """Return what a task of a run has returned."""
        path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/{task}/xcomEntries/return_value"
        return self.get(path)["value"]

    def log(self, run: dict[str, Any], task: str) -> str:
        """Return what the first try of a task has logged."""
        path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/{task}/logs/1"
        return "\n".join(str(line.get("event", line)) for line in self.get(path)["content"])


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
