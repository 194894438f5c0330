"""DAGs on the shared stack: each run is a process of its own, killed at a line of its log, at a call, or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .cli import ROOT, Cli


@dataclass
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

    @cached_property
    def _host(self) -> subprocess.Popen[str]:
        """The process that forks one for each run: it has Airflow in memory, whose import takes longer than most runs.

        It ends with its stdin, which is this process's.
        """
        return subprocess.Popen(
            [sys.executable, "-m", "tests.task_host"],
            env=self.environ,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _end(self, *words: str) -> tuple[int, str]:
        """Run a process of these words to its end; return its exit code and its log."""
        log = self.home / "run.log"
        assert self._host.stdin is not None and self._host.stdout is not None
        print(json.dumps({"words": words, "log": str(log)}), file=self._host.stdin, flush=True)
        answer = self._host.stdout.readline()
        assert answer, "the host of runs has died"
        return int(answer), log.read_text(encoding="utf-8", errors="replace")

    def _words(self, file: str, dag_id: str, at: str, form: Mapping[str, Any]) -> list[str]:
        return [str(self.cli.project / "dags" / file), dag_id, at, json.dumps(form)]

    def run(self, file: str, dag_id: str, at: str, **form: Any) -> dict[str, Any]:
        """Run a DAG to its end and return the states of its tasks, and what they returned; with its log.

        The same `at` again is that run, cleared.
        """
        code, log = self._end("tests.airflow_run", *self._words(file, dag_id, at, form))
        assert code == 0, log[-3000:]
        found: dict[str, Any] = json.loads(log.splitlines()[-1])
        return found | {"log": log}

    def kill_at(self, words: str, file: str, dag_id: str, at: str, **form: Any) -> None:
        """Run a DAG and kill its process (-9) at the first line of its log that holds these words."""
        command = [sys.executable, "-m", "tests.airflow_run", *self._words(file, dag_id, at, form)]
        with subprocess.Popen(
            command, env=self.environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
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
        code, log = self._end("tests.soak.dying_task", moment, call, *self._words(file, dag_id, at, {}))
        assert code == -signal.SIGKILL and "@killed" in log, f"exit {code}: {log[-3000:]}"
