"""Airflow's part of the native stack: where it is, what it is started with, its secrets and its database.

Secrets are made once, on this machine, in files that only their owner can read; airflow.cfg holds none: it names
commands that print them.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import PenstockError
from penstock.settings import Settings
from penstock.stack.layout import Layout, layout, make_private
from penstock.stack.processes import MARK

USER = "admin"

#: Secret files below <state>/airflow, and what makes each.  Fernet asks for 32 bytes in URL-safe base64.
SECRETS: dict[str, Callable[[], str]] = {
    "fernet_key": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "api_secret_key": lambda: secrets.token_urlsafe(48),
    "jwt_secret": lambda: secrets.token_urlsafe(48),
    "passwords.json": lambda: json.dumps({USER: secrets.token_urlsafe(12)}),
}


@dataclass(frozen=True)
class Access:
    """How to get into Airflow's UI; `file` holds the password."""

    url: str
    user: str
    password: str
    file: Path


def installed() -> bool:
    """Say whether Airflow can be run; it is not imported."""
    return importlib.util.find_spec("airflow") is not None


def version() -> str:
    return importlib.metadata.version("apache-airflow")


def command() -> tuple[str, ...]:
    """Return the start of every command line of Airflow's."""
    return (sys.executable, "-m", "airflow")


def address(settings: Settings) -> str:
    return f"http://127.0.0.1:{settings.stack.port('airflow_api')}"


def environment(settings: Settings, part: str) -> dict[str, str]:
    """Return the variables of a part, as the process manager's file has them: its `%(ENV_X)s` is the daemon's own X.

    What a DAG or a task needs to find this stack and project is among them: PENSTOCK_STATE, PENSTOCK_PORT_BASE,
    PENSTOCK_ENV; `penstock` itself is on PATH.
    """
    place = layout(settings)
    return {
        "AIRFLOW_HOME": str(place.airflow),
        "AIRFLOW_CONFIG": str(place.conf / part / "airflow.cfg"),
        # Its processes name themselves; without this they would do so over the mark by which they are known as ours.
        "SPT_NOENV": "1",
        "PENSTOCK_STATE": str(place.state),
        "PENSTOCK_PORT_BASE": str(settings.stack.port_base),
        "PENSTOCK_ENV": "native",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}%(ENV_PATH)s",
    }


def access(settings: Settings) -> Access | None:
    """Return how to log in; None where Airflow was never started in this state directory."""
    file = layout(settings).airflow / "passwords.json"
    try:
        password = json.loads(file.read_text(encoding="utf-8"))[USER]
    except FileNotFoundError:
        return None
    return Access(address(settings), USER, password, file)


def prepare(settings: Settings) -> None:
    """Make the secrets that are not there yet, and bring the database to the installed version's schema.

    Broken off and run again, it ends the same.  Raises PenstockError with Airflow's last words.
    """
    place = layout(settings)
    make_private(place.airflow)
    for name, make in SECRETS.items():
        _keep_secret(place.airflow / name, make)
    stamp = place.airflow / "database.version"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == version():
        return
    _migrate(settings, place)
    with contextlib.closing(sqlite3.connect(place.airflow / "airflow.db")) as database:
        # Readers and the one writer don't wait for each other; kept in the file.
        database.execute("PRAGMA journal_mode=WAL")
    stamp.write_text(version(), encoding="utf-8")


def _keep_secret(file: Path, make: Callable[[], str]) -> None:
    """Write a new secret, whole or not at all; one that is there stays: what it has encrypted needs it."""
    if file.is_file():
        return
    draft = file.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(make())
    os.replace(draft, file)


def _migrate(settings: Settings, place: Layout) -> None:
    own = environment(settings, "airflow-api-server")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
    own["PATH"] = own["PATH"].replace("%(ENV_PATH)s", inherited.get("PATH", os.defpath))
    done = subprocess.run(
        [*command(), "db", "migrate"],
        env={**inherited, **own, MARK: str(place.state)},
        cwd=settings.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = "\n".join(f"    {line}" for line in _last(done.stdout.splitlines(), 12))
        hint = f"its database is {place.airflow / 'airflow.db'}; `penstock up --without airflow` goes on without it"
        raise PenstockError(f"Airflow's database can't be made:\n{words}", hint=hint)


def _last(lines: list[str], most: int) -> Iterator[str]:
    yield from lines[-most:]
