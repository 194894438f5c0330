"""The stack of docker-compose.yml under a name, passwords and ports of its own, on images built here."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from penstock.stack.airflow import Access
from penstock.wait import Pending, until

ROOT = Path(__file__).parents[2]
AIRGAP = ROOT / "infra/airgap"
FILES = ("docker-compose.yml", "compose.airgap.yml")
PORTS = ("KAFKA", "FLINK", "DRUID_BROKER", "DRUID_COORDINATOR", "DRUID_ROUTER", "AIRFLOW")
#: Services that end by themselves, and are awaited by others.
ONCE = ("kafka-init", "airflow-init")
#: Seconds: the machine may be busy with building, and small.
PATIENCE = 900


def free_ports(count: int) -> list[int]:
    with ExitStack() as open_at_once:
        held = [open_at_once.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


class Compose:
    """One project of compose: its commands, and `penstock` on the host as its user.

    Its name, passwords and ports are in `folder`; a second one of the same folder is the same project.
    """

    def __init__(self, folder: Path) -> None:
        self.env_file = folder / ".env"
        subprocess.run([sys.executable, ROOT / "infra/compose/make_secrets.py"], cwd=folder, check=True)
        lines = self.env_file.read_text(encoding="utf-8").splitlines()
        self.secrets = dict(line.split("=", 1) for line in lines)
        known = folder / "project.json"
        if not known.exists():
            ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
            known.write_text(json.dumps({"project": f"penstock-airgap-{secrets.token_hex(4)}", "ports": ports}))
        found = json.loads(known.read_text(encoding="utf-8"))
        self.project: str = found["project"]
        self.ports: dict[str, int] = found["ports"]

    @property
    def environ(self) -> dict[str, str]:
        ports = {f"PENSTOCK_{name}_PORT": str(port) for name, port in self.ports.items()}
        own = {"COMPOSE_PROJECT_NAME": self.project, "COMPOSE_FILE": ":".join(FILES), "COLUMNS": "160"}
        return {**os.environ, **self.secrets, **ports, **own}

    def call(self, *words: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run `docker compose ...` and return the finished process, whatever its exit code."""
        return self._run(["docker", "compose", *words], timeout)

    def run(self, *words: str, timeout: float = PATIENCE) -> str:
        return passed(self.call(*words, timeout=timeout))

    def penstock(self, *words: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "penstock", "--env", "compose", *words], timeout)

    def _run(self, words: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=timeout, check=False
        )

    def up(self) -> str:
        """Bring all of it up, healthy; a failure tells what the unhealthy ones have logged."""
        done = self.call("up", "--detach", "--wait", "--wait-timeout", str(PATIENCE))
        if done.returncode != 0:
            ill = [it["Service"] for it in self.containers() if not well(it)]
            raise AssertionError(f"{done.stderr[-3000:]}\n{self.call('logs', '--tail', '30', *ill).stdout[-8000:]}")
        return done.stderr

    def containers(self) -> list[dict[str, Any]]:
        """Return what compose tells of each container, stopped ones too."""
        listed = self.run("ps", "--all", "--format", "json")
        return [json.loads(line) for line in listed.splitlines()]

    def inspect(self, service: str) -> dict[str, Any]:
        """Return Docker's account of a service's container."""
        name = self.run("ps", "--all", "--quiet", service).strip()
        found: list[dict[str, Any]] = json.loads(docker("inspect", name))
        return found[0]

    def await_back(self, service: str, started: str, *, timeout: float = 300) -> None:
        """Wait until a container that was started at `started` has been started anew, and is healthy."""

        def look() -> bool | Pending:
            state = self.inspect(service)["State"]
            health = state.get("Health", {}).get("Status")
            back = state["Running"] and state["StartedAt"] != started and health == "healthy"
            return True if back else Pending(f"{state['Status']}, {health}")

        until(f"{service}, started anew", look, timeout=timeout, interval=0.5)

    def memory(self) -> float:
        """Return how many MiB all its containers use now."""
        used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *self.run("ps", "--quiet").split())
        return sum(megabytes(line) for line in used.splitlines())

    def verify(self, *words: str) -> list[dict[str, Any]]:
        """Verify every pipeline from the host, and return the ledgers; each must be equal, over rows that are there."""
        done = self.penstock("verify", "--timeout", "300", *words, "--json", timeout=1200)
        assert done.returncode in (0, 4), f"exit {done.returncode}\n{done.stderr}"
        ledgers: list[dict[str, Any]] = json.loads(done.stdout)
        for ledger in ledgers:
            assert ledger["equal"], (ledger["pipeline"], ledger["differences"])
            assert ledger["rows_compared"], ledger["pipeline"]
        return ledgers

    def airflow(self) -> Access:
        url = f"http://127.0.0.1:{self.ports['AIRFLOW']}"
        return Access(url, "admin", self.secrets["PENSTOCK_AIRFLOW_PASSWORD"], self.env_file)

    def left(self) -> dict[str, str]:
        """Return what Docker still has of this project, by kind."""
        mine = f"label=com.docker.compose.project={self.project}"
        kinds = {"containers": ("ps", "--all"), "volumes": ("volume", "ls"), "networks": ("network", "ls")}
        found = {kind: docker(*words, "--quiet", "--filter", mine) for kind, words in kinds.items()}
        return {kind: text for kind, text in found.items() if text.strip()}


def well(container: dict[str, Any]) -> bool:
    if container["Service"] in ONCE:
        return bool(container["State"] == "exited" and container["ExitCode"] == 0)
    return bool(container["State"] == "running" and container["Health"] == "healthy")


def docker(*words: str) -> str:
    return passed(subprocess.run(["docker", *words], capture_output=True, text=True, timeout=120, check=False))


def passed(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a process printed; it must have succeeded."""
    said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, f"{done.args}: exit {done.returncode}\n{said}"
    return done.stdout


def megabytes(text: str) -> float:
    """Return 512.3 of `512.3MiB / 1GiB`."""
    used = text.split("/")[0].strip()
    for unit, size in (("GiB", 1024), ("MiB", 1), ("KiB", 1 / 1024), ("B", 1 / 1024**2)):
        if used.endswith(unit):
            return float(used.removesuffix(unit)) * size
    raise ValueError(text)


class Clock:
    """How long each thing took, in the order in which it was done."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def time(self, what: str, since: float) -> None:
        self.note(what, f"{time.monotonic() - since:.0f} s")

    def note(self, what: str, figure: str) -> None:
        self.lines.append((what, figure))
        print(f"{what}: {figure}", flush=True)
