"""The shipped DAGs on the shared stack: each run is a process of its own, which can be killed at a line of its log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cli import ROOT, Cli


@dataclass(frozen=True)
class Airflow:
    """An Airflow of its own, in `home`, whose DAGs act on a project's pipelines; `more` is its environment's."""

    cli: Cli
    home: Path
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        return {
            **self.cli.environ,
            **self.more,
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.cli.project / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }

    def migrate(self) -> None:
        words = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(words, env=self.environ, check=True, capture_output=True)

    def start(
        self, file: str, dag_id: str, at: str, *, by: Sequence[str] = ("tests.airflow_run",), **form: Any
    ) -> subprocess.Popen[str]:
        """Start a run; the same `at` again is that run, cleared."""
        path = self.cli.project / "dags" / file
        words = [sys.executable, "-m", *by, str(path), dag_id, at, json.dumps(form)]
        return subprocess.Popen(
            words, env=self.environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, file: str, dag_id: str, at: str, **form: Any) -> dict[str, Any]:
        """Run a DAG to its end and return the states of its tasks, and what they returned; with its log."""
        with self.start(file, dag_id, at, **form) as process:
            log, _ = process.communicate()
        assert process.returncode == 0, log[-3000:]
        found: dict[str, Any] = json.loads(log.splitlines()[-1])
        return found | {"log": log}

    def kill_at(self, words: str, file: str, dag_id: str, at: str, **form: Any) -> None:
        """Run a DAG and kill its process (-9) at the first line of its log that holds these words."""
        with self.start(file, dag_id, at, **form) as process:
            assert process.stdout is not None
            seen = []
            for line in process.stdout:
                seen.append(line)
                if words in line:
                    process.send_signal(signal.SIGKILL)
                    return
        raise AssertionError(f"{words!r} is not in its log: {''.join(seen)[-3000:]}")

    def die_at(self, moment: str, call: str, file: str, dag_id: str, at: str) -> None:
        """Run a DAG whose process dies by -9 before, amid or after a call."""
        with self.start(file, dag_id, at, by=("tests.soak.dying_task", moment, call)) as process:
            log, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL and "@killed" in log, log[-3000:]
