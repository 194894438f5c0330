"""Druid's SQL, asked again and again over one kept connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from penstock.errors import PenstockError, UnavailableError, WaitTimeoutError

#: Seconds between two questions: what a sample is late by, at the most.
INTERVAL = 0.02


class Sql:
    """Queries to one broker; rows are lists."""

    def __init__(self, broker: str) -> None:
        self._url = f"{broker.rstrip('/')}/druid/v2/sql"
        self._client = httpx.Client(timeout=30, trust_env=False)

    def rows(self, query: str) -> list[list[Any]]:
        """Return the rows of a query; none for a datasource that is not there yet.  Raises UnavailableError."""
        try:
            answer = self._client.post(self._url, json={"query": query, "resultFormat": "array"})
        except httpx.HTTPError as error:
            raise UnavailableError(f"Druid does not answer {query!r}: {error!r}") from error
        if answer.status_code == 400 and "not found" in answer.text:
            return []
        if answer.is_error:
            raise PenstockError(f"Druid refused {query!r}: {answer.text[:300]}")
        rows: list[list[Any]] = answer.json()
        return rows

    def timed(self, query: str) -> float:
        """Return the seconds from the question to the last row of the answer; an empty one is an error."""
        began = time.perf_counter()
        rows = self.rows(query)
        seconds = time.perf_counter() - began
        if not rows:
            raise PenstockError(f"Druid has no rows for {query!r}")
        return seconds

    def watch(
        self,
        query: Callable[[], str],
        look: Callable[[list[list[Any]], float], bool],
        *,
        subject: str,
        timeout: float,
    ) -> None:
        """Ask every INTERVAL until `look`, given the rows and when they were there (perf_counter), says True.

        Raises WaitTimeoutError after `timeout` seconds.
        """
        deadline = time.perf_counter() + timeout
        while True:
            began = time.perf_counter()
            rows = self.rows(query())
            now = time.perf_counter()
            if look(rows, now):
                return
            if now > deadline:
                raise WaitTimeoutError(f"{subject}: not all seen after {timeout:g} s; last: {rows[:3]}")
            time.sleep(max(0.0, began + INTERVAL - now))
