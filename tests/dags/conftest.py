"""One process that has Airflow loaded, and parses each file in a child of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
Parse = Callable[..., dict[str, Any]]

#: Runs a file of DAGs with every way to a network closed, and prints its DAGs.
PARSE = """
import json, socket, sys, time
import airflow.sdk  # what the process that parses files has loaded already
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
def closed(*_, **__): raise AssertionError("a network call while a file of DAGs is parsed")
socket.socket.connect = socket.socket.connect_ex = closed
socket.create_connection = socket.getaddrinfo = closed
began = time.process_time()
bag = DagBag(sys.argv[1])
took = time.process_time() - began
assert not bag.import_errors, list(bag.import_errors.values())[0]
found = {}
for dag in bag.dags.values():
    dag.topological_sort()
    DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    found[dag.dag_id] = {
        "schedule": str(dag.schedule) if dag.schedule else None,
        "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "tasks": {
            task.task_id: [type(task).__name__, str(task.trigger_rule), sorted(task.downstream_task_ids)]
            for task in dag.tasks
        },
    }
print(json.dumps({"seconds": took, "dags": dict(sorted(found.items()))}))
"""

#: Loads Airflow once, which takes longer than all files, and runs PARSE in a fork for each line that it is sent.
SERVE = f"""
import json, os, sys, traceback
answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
import airflow.sdk
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
for line in sys.stdin:
    cwd, file, told = json.loads(line)
    child = os.fork()
    if not child:
        sys.argv, sys.stdout, failed = ["", file], open(told, "w"), False
        try:
            os.chdir(cwd)
            exec({PARSE!r}, {{"__name__": "__main__"}})
        except BaseException:
            failed = True
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        os._exit(failed)
    print(os.waitpid(child, 0)[1], file=answers, flush=True)
"""


@pytest.fixture(scope="session")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parse]:
    """Return a function of a file and the folder to be in, which returns {seconds, dags: {id: graph}}."""
    folder = tmp_path_factory.mktemp("airflow")
    environ = {**os.environ, "AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
    )
    assert server.stdin is not None and server.stdout is not None

    def ask(file: Path, cwd: Path = ROOT) -> dict[str, Any]:
        told = folder / "told"
        told.unlink(missing_ok=True)
        print(json.dumps([str(cwd), str(file), str(told)]), file=server.stdin, flush=True)
        answer = server.stdout.readline().strip()
        assert answer, "the process that parses has died"
        text = told.read_text(encoding="utf-8")
        assert answer == "0", text[-3000:]
        found: dict[str, Any] = json.loads(text.splitlines()[-1])
        return found

    yield ask
    server.stdin.close()
    assert server.wait(timeout=30) == 0
