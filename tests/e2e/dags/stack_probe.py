"""Asks from within a task for what every DAG of a project relies on: settings, services, the command line."""

from __future__ import annotations

import subprocess
from typing import Any

from airflow.sdk import dag, task


@dag(dag_id="stack_probe", schedule=None, is_paused_upon_creation=False)
def stack_probe() -> None:
    @task
    def look() -> dict[str, Any]:
        from penstock.services.kafka import Kafka
        from penstock.settings import load_settings

        settings = load_settings()
        done = subprocess.run(["penstock", "check"], capture_output=True, text=True, check=True)
        return {
            "state": str(settings.stack.state),
            "topics": len(Kafka(settings.env.kafka).topics(["absent.v1"])),
            "check": done.stdout.splitlines()[-1],
        }

    look()


stack_probe()
