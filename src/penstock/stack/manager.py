"""The process manager: supervisor's daemon, started detached and told what to do over its socket (XML-RPC)."""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from penstock.errors import DeclarationError, PenstockError, UnavailableError
from penstock.stack.layout import Layout
from penstock.stack.processes import MARK
from penstock.wait import Pending, until

#: The daemon's names of states, and what they are to a reader.
STATES = {
    "STOPPED": "stopped",
    "STARTING": "starting",
    "RUNNING": "running",
    "BACKOFF": "failing",
    "STOPPING": "stopping",
    "EXITED": "ended",
    "FATAL": "failed",
    "UNKNOWN": "unknown",
}


@dataclass(frozen=True)
class Info:
    """What the process manager knows of a part: `since` is epoch seconds of the last start, `why` its last failure."""

    name: str
    state: str
    pid: int
    since: int
    why: str


def _environment(place: Layout) -> dict[str, str]:
    """Return what all parts inherit: no setting of another Airflow, and no proxy between processes of this machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
    bypass = [os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "", "127.0.0.1", "localhost"]
    return {**inherited, "NO_PROXY": ",".join(filter(None, bypass)), MARK: str(place.state)}


class Manager:
    """The daemon of one stack.  Every call raises UnavailableError where none runs."""

    def __init__(self, place: Layout) -> None:
        self.place = place

    def alive(self) -> bool:
        """Say whether the daemon answers."""
        try:
            self._call("getState")
        except UnavailableError:
            return False
        return True

    def pid(self) -> int:
        return int(self._call("getPID"))

    def start(self) -> None:
        """Start the daemon, detached from this terminal, and wait until it answers.  It starts no part by itself."""
        if importlib.util.find_spec("supervisor") is None:
            raise DeclarationError("supervisor is not installed", hint="install penstock with its extra `stack`")
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.place.supervisord_conf)],
            env=_environment(self.place),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C here is not meant for it
        )
        if done.returncode != 0:
            raise PenstockError(
                f"the process manager does not start: {(done.stderr or done.stdout).strip()}",
                hint=f"its settings are {self.place.supervisord_conf}, its log {self.place.supervisord_log}",
            )
        until(
            "the process manager",
            lambda: self.alive() or Pending("does not answer"),
            timeout=15,
            interval=0.05,
            hint=f"see {self.place.supervisord_log}",
        )

    def infos(self) -> dict[str, Info]:
        """Return the state of every part, by name."""
        return {
            item["name"]: Info(item["name"], STATES[item["statename"]], item["pid"], item["start"], item["spawnerr"])
            for item in self._call("getAllProcessInfo")
        }

    def start_part(self, name: str) -> None:
        """Have a part started; does not wait.  One that runs already is left alone."""
        self._unless("ALREADY_STARTED", "startProcess", name, False)

    def stop_part(self, name: str) -> None:
        """Have a part stopped; does not wait.  One that does not run is left alone."""
        self._unless("NOT_RUNNING", "stopProcess", name, False)

    def shutdown(self) -> None:
        """Have the daemon stop whatever still runs, and end."""
        self._call("shutdown")

    def restarts(self) -> dict[str, int]:
        """Return how often each part was started again since the daemon's start, from the daemon's log."""
        try:
            text = self.place.supervisord_log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return {}
        session = text.rpartition("supervisord started with pid")[2]
        counts: dict[str, int] = {}
        for name in re.findall(r"spawned: '([^']+)' with pid", session):
            counts[name] = counts.get(name, -1) + 1
        return counts

    def _unless(self, fault: str, method: str, *arguments: Any) -> None:
        try:
            self._call(method, *arguments)
        except xmlrpc.client.Fault as error:
            if fault not in error.faultString:
                raise PenstockError(f"the process manager refuses {method}{arguments}: {error.faultString}") from None

    def _call(self, method: str, *arguments: Any) -> Any:
        with self._proxy() as proxy:
            try:
                return getattr(proxy.supervisor, method)(*arguments)
            except (OSError, http.client.HTTPException) as error:
                raise UnavailableError(
                    f"the process manager does not answer at {self.place.socket}: {error}", hint="penstock up"
                ) from None

    @contextmanager
    def _proxy(self) -> Iterator[Any]:
        path = str(self.place.socket)

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self.sock.settimeout(10)
                self.sock.connect(path)

        class Transport(xmlrpc.client.Transport):
            def make_connection(self, host: Any) -> http.client.HTTPConnection:
                return Connection("localhost")

        with xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=Transport()) as proxy:
            yield proxy
