"""Airflow's pages as a user clicks through them, in headless Chromium: forms, runs, tasks; and pictures of them."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from penstock.wait import Pending, until

from .airflow import PATIENCE, Api, see

#: Pixels of a picture, and the most bytes of one that is kept.
WIDTH, HEIGHT, BYTES = 1280, 800, 150_000
#: Seconds; what slides or fades in has come to rest.
REST = 1.5


#: What Airflow itself names for tests, what stands in for what is not there yet, the two inputs of an open picker.
TESTED = "//*[@data-testid='{}']"
LOADING = "//*[contains(@class, 'skeleton') or @role='progressbar']"
PICKER = "[data-scope='popover'][data-state='open'] input"


def field(title: str) -> str:
    """Return the XPath of a form's row, by the beginning of its title."""
    return f"//*[contains(@class, 'field__root')][.//label[starts-with(normalize-space(), '{title}')]]"


@dataclass(frozen=True)
class Pages:
    """One browser, logged in.  `drafts` gets every picture as it is, `images` the small ones; None: none is kept."""

    page: WebDriver
    api: Api
    drafts: Path
    images: Path | None = None

    def open(self, path: str) -> None:
        self.page.get(f"{self.api.access.url}{path}")

    def click(self, by: str, what: str) -> None:
        WebDriverWait(self.page, PATIENCE, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda page: page.find_element(by, what).is_displayed()
        )
        self.page.find_element(by, what).click()

    def text(self) -> str:
        """Return what can be read on the page, its white space as single blanks."""
        return " ".join(self.page.find_element(By.TAG_NAME, "body").text.split())

    def read(self, *words: str) -> None:
        """Wait until all these words can be read on the page."""
        seen = ""

        def there(_: WebDriver) -> bool:
            nonlocal seen
            seen = self.text()
            return all(" ".join(word.split()) in seen for word in words)

        wait = WebDriverWait(self.page, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
        try:
            wait.until(there)
        except Exception:
            self.page.save_screenshot(str(self.drafts / f"missed-{time.time():.0f}.png"))
            raise AssertionError(f"not on the page: {words}; it reads: {seen[-3000:]}") from None

    def picture(self, name: str, *, zoom: float = 1.0) -> None:
        """Take a picture of what is to be seen; with a `zoom` below 1, of more of it."""
        seen = {
            "width": round(WIDTH / zoom),
            "height": round(HEIGHT / zoom),
            "deviceScaleFactor": zoom,
            "mobile": False,
        }
        self.page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", seen)  # type: ignore[attr-defined]
        until("the page", self._at_rest, timeout=PATIENCE, interval=0.5)
        time.sleep(REST)
        draft = self.drafts / f"{name}.png"
        self.page.save_screenshot(str(draft))
        if self.images is not None:
            keep(draft, self.images / draft.name)

    def _at_rest(self) -> bool | Pending:
        try:
            moving = self.page.find_elements(By.XPATH, LOADING)
            shown = any(it.is_displayed() for it in moving)
        except StaleElementReferenceException:
            shown = True
        # Until its words are loaded, the page shows their names.
        return Pending("loads") if shown or "nav.home" in self.text() else True

    # The form of a DAG.

    def form(self, dag: str) -> None:
        """Open the form by which a DAG is triggered."""
        self.api.await_dag(dag)
        self.open(f"/dags/{dag}")
        self.click(By.XPATH, TESTED.format("trigger-dag-button"))
        see(self.page, By.XPATH, TESTED.format("trigger-dag-submit"))

    def choose(self, title: str, value: str) -> None:
        """Choose from a list by keyboard."""
        box = see(self.page, By.XPATH, f"{field(title)}//input")
        box.send_keys(value)
        box.send_keys(Keys.ENTER)

    def write(self, title: str, value: str) -> None:
        see(self.page, By.XPATH, f"{field(title)}//input").send_keys(value)

    def tick(self, title: str) -> None:
        self.click(By.XPATH, f"{field(title)}//label[contains(@class, 'switch')]")

    def pick(self, title: str, day: str, at: str = "00:00") -> None:
        """Write a date (2013/01/03) and a time into the picker of a field."""
        self.click(By.XPATH, f"{field(title)}{TESTED.format('datetime-input')}")
        see(self.page, By.CSS_SELECTOR, PICKER)
        for place, value in enumerate((day, at)):
            box = self.page.find_elements(By.CSS_SELECTOR, PICKER)[place]
            box.send_keys(Keys.CONTROL, "a")
            box.send_keys(value)
        self.page.find_element(By.CSS_SELECTOR, "[role='dialog'] h2").click()

    # Runs and tasks.

    def trigger(self, dag: str, fill: Callable[[], None] | None = None, *, timeout: float = 600) -> dict[str, Any]:
        """Fill in a DAG's form and send it off; return the run when it has ended."""
        self.form(dag)
        if fill:
            fill()
        before = {run["dag_run_id"] for run in self.runs(dag)}
        self.click(By.XPATH, TESTED.format("trigger-dag-submit"))
        return self.ended(dag, before, timeout=timeout)

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, the newest first."""
        found: list[dict[str, Any]] = self.api.get(f"/dags/{dag}/dagRuns", order_by="-run_after")["dag_runs"]
        return found

    def ended(self, dag: str, before: set[str], *, timeout: float = 600) -> dict[str, Any]:
        """Wait for a run that was not there before, and for its end."""

        def new() -> dict[str, Any] | Pending:
            for run in self.runs(dag):
                if run["dag_run_id"] not in before:
                    return run if run["state"] in ("success", "failed") else Pending(run["state"])
            return Pending("there is no new run")

        return until(f"a run of {dag}", new, timeout=timeout, interval=1)

    def see_run(self, run: dict[str, Any], task: str = "", tab: str = "") -> None:
        """Open the page of a run, or of one of its tasks."""
        inner = f"/tasks/{task}" if task else ""
        self.open(f"/dags/{run['dag_id']}/runs/{run['dag_run_id']}{inner}{f'/{tab}' if tab else ''}")


def keep(draft: Path, picture: Path) -> None:
    """Write a picture small: 256 colours, by pngquant, which is a package of every distribution."""
    tool = shutil.which("pngquant")
    assert tool, "pictures are written by pngquant: apt-get install pngquant"
    picture.parent.mkdir(exist_ok=True)
    words = [tool, "--force", "--strip", "--speed", "1", "--output", str(picture), "--", str(draft)]
    subprocess.run(words, check=True)
    assert picture.stat().st_size < BYTES, f"{picture.name} has {picture.stat().st_size:,} bytes"
