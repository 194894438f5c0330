"""Batch tasks of Druid, run once: a task's id is made from what it is for, and Druid refuses a second one of an id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.errors import PenstockError
from penstock.services.protocols import DruidService
from penstock.wait import Pending, Progress, until


@dataclass(frozen=True)
class TaskOutcome:
    """What became of a task: its id, whether it was run now, what it was about, in a line."""

    task: str
    changed: bool
    datasource: str
    line: str


def newest(druid: DruidService, identity: str) -> str | None:
    """Return the id of the newest attempt that Druid knows, None where there is none."""
    number, found = 1, None
    while druid.task_state(candidate := f"{identity}_{number}") is not None:
        number, found = number + 1, candidate
    return found


def run_task(
    druid: DruidService,
    identity: str,
    spec: Mapping[str, Any],
    *,
    progress: Progress | None = None,
    timeout: float = 300,
) -> TaskOutcome:
    """Run a task to its end.  One that runs or has succeeded is taken as it is; after a failed one comes the next.

    Raises PenstockError with Druid's reason where it fails.
    """
    last = newest(druid, identity)
    state = druid.task_state(last) if last else None
    about = _datasource(spec)
    if last is not None and state == "SUCCESS":
        return TaskOutcome(last, False, about, f"nothing to do: task {last} has succeeded already")
    number = int(last.rpartition("_")[2]) if last else 0
    task = last if last is not None and state == "RUNNING" else f"{identity}_{number + 1}"
    if task != last:
        druid.submit_task({**spec, "id": task})

    def probe() -> bool | Pending:
        state = druid.task_state(task)
        if state == "FAILED":
            raise PenstockError(f"Druid's task {task} failed: {druid.task_failure(task)}")
        return True if state == "SUCCESS" else Pending(state or "not known to Druid yet")

    until(f"Druid's task {task}", probe, timeout=timeout, interval=0.5, progress=progress)
    return TaskOutcome(task, True, about, f"task {task} has succeeded")


def _datasource(spec: Mapping[str, Any]) -> str:
    schema = spec.get("spec", {}).get("dataSchema", {})
    return str(schema.get("dataSource") or spec.get("dataSource") or "")
