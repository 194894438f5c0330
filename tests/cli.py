"""The command line, as a process, on the shared stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.generation import stream
from penstock.services.kafka import Kafka, Record
from penstock.services.registry import Registry
from penstock.settings import Settings
from penstock.testing.project import environ

ROOT = Path(__file__).parents[1]

#: Verbs, and the option of others, that read what a replay has computed.
READERS = {"replay", "repair", "upgrade", "--replay-from"}


@dataclass(frozen=True)
class Cli:
    """A project on a stack: `penstock` runs in it as a user would run it."""

    stack: Settings
    project: Path
    topic: str

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, **environ(self.stack), "COLUMNS": "160"}

    def call(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a verb and return the finished process, whatever its exit code."""
        return subprocess.run(
            self.command(words),
            env=self.environ,
            cwd=self.project,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def command(self, words: Sequence[str]) -> list[str]:
        """Return the command line of a verb: in a container where it reads files that only containers have."""
        if self.stack.env.name == "native" or not READERS.intersection(words):
            return [sys.executable, "-m", "penstock", "--project", str(self.project), *words]
        compose = ["docker", "compose", "--project-directory", str(self.project), "run", "--rm", "--no-deps", "-T"]
        return [*compose, "--env", "COLUMNS=160", "airflow-scheduler", "penstock", *words]

    def run(self, *words: str, timeout: float = 300) -> str:
        """Run a verb that must succeed and return what it printed."""
        done = self.call(*words, timeout=timeout)
        assert done.returncode == 0, f"penstock {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def produce(self, count: int, *options: str, **shares: object) -> dict[str, int]:
        """Generate events; return how many of each kind were sent."""
        words = [word for name, value in shares.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        done = json.loads(
            self.run("produce", "generate", self.topic, "--count", str(count), *words, *options, "--json")
        )
        kinds: dict[str, int] = done["kinds"]
        return kinds

    def verify(self, *pipelines: str) -> list[dict[str, Any]]:
        """Verify and return the ledgers, equal or not."""
        done = self.call("verify", *pipelines, "--json")
        assert done.returncode in (0, 4), f"exit {done.returncode}\n{done.stderr}"
        ledgers: list[dict[str, Any]] = json.loads(done.stdout)
        return ledgers

    def stream(self, pipeline: str) -> str:
        """Return what the running generation of a pipeline is called."""
        env = self.stack.env
        return stream(pipeline, Registry(env, Kafka(env.kafka)).read().get(pipeline))

    def read(self, topic: str) -> Iterator[Record]:
        """Yield the committed records of a topic."""
        kafka = Kafka(self.stack.env.kafka)
        for batch in kafka.read(topic, kafka.start_offsets(topic), kafka.end_offsets(topic, committed=True)):
            yield from batch
