"""Links from a task to the Flink job and to Druid.  An operator knows them once it has acted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from penstock.services.http import shown

if TYPE_CHECKING:
    from penstock.settings import Environment


class FlinkLink(BaseOperatorLink):
    """The Flink job that the task started, stopped or awaited."""

    name = "Flink job"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return str(getattr(operator, "flink_url", ""))


class DruidLink(BaseOperatorLink):
    """The supervisor or the indexing task in Druid."""

    name = "Druid"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        return str(getattr(operator, "druid_url", ""))


def flink_job(env: Environment, job_id: str) -> str:
    """Return the page of a job in Flink's own UI."""
    return f"{shown(env.flink.web or env.flink.rest)}/#/job/running/{job_id}/overview"


def supervisor(env: Environment, name: str) -> str:
    """Return a supervisor's status at the coordinator; its console is not in every installation."""
    return f"{shown(env.druid.web or env.druid.coordinator)}/druid/indexer/v1/supervisor/{name}/status"


def druid_task(env: Environment, task_id: str) -> str:
    """Return a task's status at the coordinator."""
    return f"{shown(env.druid.web or env.druid.coordinator)}/druid/indexer/v1/task/{task_id}/status"
