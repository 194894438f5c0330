"""A project with everything that `up` asks for, where Java is a shell script and every probe is content."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.settings import PORT_OFFSETS, Settings, load_settings
from penstock.stack import airflow, checks, probes, processes
from penstock.wait import Pending

ROOT = Path(__file__).parents[3]

#: Plays every part: says who it is and sleeps, or fails where a file <state>/fail-<part> tells it to.
JAVA = """#!/bin/bash
case "$*" in
*-version*) echo 'openjdk version "17.0.1" 2021-10-19' >&2; exit 0;;
*StorageTool*)
  for word; do case "$word" in *format.properties) folder=$(sed -n 's/^log.dirs=//p' "$word");; esac; done
  mkdir -p "$folder" && touch "$folder/meta.properties"; exit 0;;
esac
part=$(basename "$PWD")
echo "$part begins"
if [ -f "$PENSTOCK_STACK/fail-$part" ]; then echo "$part: something is wrong"; exit 3; fi
exec -a "java $*" sleep 600
"""


#: Plays Airflow: makes its database, or says that it can't; its parts sleep.
AIRFLOW = """#!/bin/bash
if [ "$*" = "db migrate" ]; then
  echo "$PENSTOCK_STATE $PENSTOCK_PORT_BASE $AIRFLOW_CONFIG" >> "$AIRFLOW_HOME/migrations"
  if [ -f "$PENSTOCK_STACK/fail-migration" ]; then echo "no such revision"; exit 1; fi
  exit 0
fi
echo "airflow $* begins in $PWD"
exec -a "airflow $*" sleep 600
"""


def free_base() -> int:
    """Return a base whose ports are free; below the range that clients' own ports are taken from.

    Each worker of a parallel run has a range of its own: what one has found free, no other takes.
    """
    first = 20_000 + 3_000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4)
    for base in range(first, first + 3_000, 100):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", base + PORT_OFFSETS["kafka"]))
            except OSError:
                continue
            return base
    raise RuntimeError("no free ports")


@pytest.fixture
def make_settings(tmp_path: Path) -> Iterator[Callable[..., Settings]]:
    """Make settings of a project in `tmp_path`, each with a state directory of its own; what runs there is ended."""
    (tmp_path / "penstock.toml").touch()
    (tmp_path / "infra").symlink_to(ROOT / "infra")
    for folder, patterns in checks.JARS.items():
        place = tmp_path / ".penstock" / "jars" / folder
        place.mkdir(parents=True)
        for pattern in patterns:
            (place / pattern.replace("*", "1.0")).touch()
    java = tmp_path / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(JAVA)
    java.chmod(java.stat().st_mode | stat.S_IEXEC)
    made: list[Settings] = []

    def make(name: str = "s", base: int | None = None) -> Settings:
        environ = {
            "JAVA_HOME": str(tmp_path / "jdk"),
            "PENSTOCK_STATE": str(tmp_path / name),
            "PENSTOCK_PORT_BASE": str(base or free_base()),
        }
        made.append(load_settings(tmp_path, environ=environ))
        return made[-1]

    yield make
    for settings in made:
        processes.end(processes.own(settings.stack.state), grace=0)


@pytest.fixture(autouse=True)
def no_airflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of these tests are of the other parts."""
    monkeypatch.setattr(airflow, "installed", lambda: False)


@pytest.fixture
def with_airflow(no_airflow: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "airflow"
    script.write_text(AIRFLOW)
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setattr(airflow, "installed", lambda: True)
    monkeypatch.setattr(airflow, "command", lambda: (str(script),))


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | Pending]:
    """Answer every probe from this dict, by the probe's name; "fine" where it has no entry."""
    answers: dict[str, str | Pending] = {}
    for name in (
        "zookeeper",
        "kafka",
        "druid_coordinator",
        "druid_ready",
        "druid_indexer",
        "flink_jobmanager",
        "flink_taskmanager",
        "airflow_api",
        "airflow_job",
    ):
        monkeypatch.setattr(probes, name, lambda *_, name=name: answers.get(name, "fine"))
    return answers


class Notes:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def update(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def notes() -> Notes:
    return Notes()
