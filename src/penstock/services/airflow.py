"""Airflow over its public REST API (v2): the runs of DAGs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx

from penstock.services.http import Http
from penstock.vitals.model import Run

#: The newest runs that are looked through for those of one pipeline, and how many of these are returned.
LOOKED_AT, RETURNED = 100, 5


class Airflow:
    """One Airflow, as one of its users.  Raises UnavailableError where it does not answer."""

    def __init__(self, url: str, user: str, password: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._http = Http("Airflow", url, _reason, timeout=10, transport=transport)
        self._login = {"username": user, "password": password}

    def close(self) -> None:
        self._http.close()

    def runs(self, pipeline: str) -> list[Run]:
        """Return the newest runs that concern the pipeline: of its own DAG, and of those that were told its name."""
        token = self._http.request("POST", "/auth/token", json=self._login)["access_token"]
        answer = self._http.request(
            "GET",
            "/api/v2/dags/~/dagRuns",
            params={"order_by": "-run_after", "limit": LOOKED_AT},
            headers={"Authorization": f"Bearer {token}"},
        )
        return [_run(item) for item in answer["dag_runs"] if _concerns(item, pipeline)][:RETURNED]


def _concerns(item: Mapping[str, Any], pipeline: str) -> bool:
    return bool(item["dag_id"] == f"penstock.{pipeline}" or (item.get("conf") or {}).get("pipeline") == pipeline)


def _run(item: Mapping[str, Any]) -> Run:
    return Run(
        dag=item["dag_id"],
        id=item["dag_run_id"],
        state=item["state"],
        started=_millis(item.get("start_date")),
        ended=_millis(item.get("end_date")),
    )


def _millis(text: str | None) -> int | None:
    return None if text is None else int(datetime.fromisoformat(text).timestamp() * 1000)


def _reason(text: str) -> str:
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return text[:200]
