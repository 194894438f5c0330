"""A container's health check: exit 0 when the part does what others need of it.

    healthy.py flink-jobmanager | flink-taskmanager | api-server | scheduler | dag_processor | triggerer

Standard library only: it runs every few seconds.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Any

FLINK = "http://flink-jobmanager:8081/overview"
AIRFLOW = "http://airflow-api-server:8080/api/v2/monitor/health"
TASKS = "http://airflow-api-server:8080/execution/health"


def get(url: str) -> Any:
    # No proxy stands between two containers.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=4) as answer:
        return json.load(answer)


def healthy(part: str) -> bool:
    if part == "flink-jobmanager":
        return "slots-total" in get(FLINK)
    if part == "flink-taskmanager":
        return bool(get(FLINK)["slots-total"] > 0)
    if part == "api-server":
        return get(AIRFLOW)["metadatabase"]["status"] == "healthy" and get(TASKS) is not None
    return bool(get(AIRFLOW)[part]["status"] == "healthy")


if __name__ == "__main__":
    try:
        sys.exit(0 if healthy(sys.argv[1]) else 1)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
