"""A process that has Airflow in memory and forks one for each run of a DAG: `python -m tests.task_host`.

A request is a line of JSON: the words after `python -m`, and the file that takes what the run writes.  The answer is a
line with the number that the run ended with, as `subprocess` has it: -9 is one that was killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from importlib import import_module
from typing import Any


def load() -> None:
    """Import what a run needs, and let Airflow's API for tasks build its routes: all that takes seconds."""
    import airflow.dag_processing.dagbag  # noqa: F401
    import duckdb  # noqa: F401
    import httpx
    import pyarrow  # noqa: F401
    from airflow.sdk.execution_time.supervisor import in_process_api_server

    import penstock.airflow.operators
    import penstock.proof
    import penstock.services.kafka  # noqa: F401

    app: Any = in_process_api_server().app

    async def ask() -> None:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://in-process") as client,
        ):
            await client.get("/health")

    asyncio.run(ask())


def run(words: list[str], log: str) -> None:
    """Be the run: never returns."""
    from airflow import settings

    settings.engine.dispose(close=False)  # its connections are the parent's
    with open(log, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 0
    try:
        import_module(words[0]).main(*words[1:])
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    load()
    for line in sys.stdin:
        request = json.loads(line)
        if not (child := os.fork()):
            run(request["words"], request["log"])
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main()
