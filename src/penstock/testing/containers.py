"""A stack of containers of a test session's own: docker-compose.yml by testcontainers, gone at the end with its data.

The session's project is a folder from which `docker compose` finds the stack too: its `.env` has the ports, the
passwords (generated, readable by its owner only) and the name of the stack.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import PenstockError
from penstock.settings import PORT_OFFSETS, Settings, load_settings
from penstock.testing import engine
from penstock.testing.native import free_port_base
from penstock.testing.project import SECRETS, variables
from penstock.testing.shipped import COMPOSE, RUN, copy, shipped, write_secrets

if TYPE_CHECKING:
    from testcontainers.compose import ComposeContainer, DockerCompose

#: All but Airflow's and the router; kafka-init is started by those that need it.
SERVICES = [
    "flink-jobmanager",
    "flink-taskmanager",
    "druid-coordinator",
    "druid-broker",
    "druid-historical",
    "druid-indexer",
]
#: compose's variables and the native stack's names of what is published.
PORTS = {
    "PENSTOCK_KAFKA_PORT": "kafka",
    "PENSTOCK_FLINK_PORT": "flink_rest",
    "PENSTOCK_DRUID_BROKER_PORT": "druid_broker",
    "PENSTOCK_DRUID_COORDINATOR_PORT": "druid_coordinator",
}
#: How much of a failed container's log is told.
LAST_LINES = 20


def available(overrides: Sequence[Path]) -> str:
    """Return why containers can be had.  Raises NoEngineError with the reason where they can't."""
    client = engine.engine()
    where = engine.require(client, _wanted(overrides))
    return f"Docker {client.version()['Version']} answers, {where}"


def override(name: str, root: Path) -> Path:
    """Return the file of an override, the project's or a shipped one.  Raises PenstockError where there is none."""
    found = next((folder / name for folder in (root, shipped()) if (folder / name).is_file()), None)
    if found is None:
        raise PenstockError(f"no {name}: neither in {root} nor among what is shipped with Penstock")
    return found.resolve()


def _wanted(overrides: Sequence[Path]) -> dict[str, Any]:
    """Return the services that are started, with what they depend on."""
    here = shipped()
    known = engine.services([str(here / COMPOSE), *map(str, overrides)], here, {"COMPOSE_PROJECT_NAME": "penstock"})
    wanted, open_ = dict[str, Any](), list(SERVICES)
    while open_:
        name = open_.pop()
        if name not in wanted:
            wanted[name] = known[name]
            open_ += known[name].get("depends_on", {})
    return wanted


@contextmanager
def containers_stack(root: Path, scratch: Path, overrides: Sequence[Path] = ()) -> Iterator[Settings]:
    """Start a stack for the project in `root`, without Airflow, and yield the settings of a project on it.

    The project has the jobs of `root`, and the shipped settings of the environment `compose`; its jars are those of
    Flink's image.  Containers, volumes and network are gone at the end, whatever happens.
    """
    folder = scratch / "project"
    values = _lay_out(load_settings(root, env="native"), folder, overrides)
    engine.jars(engine.engine(), _wanted(overrides)["flink-jobmanager"]["image"], folder / ".penstock" / "jars")
    try:
        with _running(folder, values):
            yield load_settings(folder, env="compose", environ=values)
    finally:
        (folder / SECRETS).unlink()


def _lay_out(project: Settings, folder: Path, overrides: Sequence[Path]) -> dict[str, str]:
    """Make the session's project and return what its `.env` holds."""
    (folder / ".penstock" / "jars").mkdir(parents=True)
    copy(RUN, folder)
    (folder / "jobs").symlink_to(project.jobs)
    (folder / "dags").mkdir()
    base = free_port_base()
    lines = {name: str(base + PORT_OFFSETS[port]) for name, port in PORTS.items()}
    lines["COMPOSE_PROJECT_NAME"] = f"penstock-test-{uuid.uuid4().hex[:8]}"
    lines["COMPOSE_FILE"] = os.pathsep.join(map(str, [folder / COMPOSE, *overrides]))
    file = folder / SECRETS
    file.touch(0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), encoding="utf-8")
    write_secrets(folder)
    return variables(file)


@contextmanager
def _running(folder: Path, values: Mapping[str, str]) -> Iterator[None]:
    from testcontainers.compose import DockerCompose

    compose = DockerCompose(folder, services=SERVICES)
    try:
        try:
            with _without(values):
                compose.start()
        except subprocess.CalledProcessError as error:
            raise PenstockError(_told(compose, error)) from None
        yield
    finally:
        compose.services = None  # all of the project, its volumes and network too
        with _without(values):
            compose.stop()


@contextmanager
def _without(values: Mapping[str, str]) -> Iterator[None]:
    """Hide the shell's variables of the same names, which compose would take before those of the file."""
    hidden = {name: value for name, value in os.environ.items() if name in values or name.startswith("COMPOSE_")}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _told(compose: DockerCompose, error: subprocess.CalledProcessError) -> str:
    """Return what compose said, and the last words of each container that is not well."""
    said = [f"`docker compose up` failed:\n{error.stderr.decode(errors='replace').strip()[-1000:]}"]
    with suppress(subprocess.CalledProcessError), _without({}):
        for one in compose.get_containers(include_all=True):
            if not _well(one):
                log = compose.get_logs("--tail", str(LAST_LINES), "--no-log-prefix", str(one.Service))[0]
                said.append(f"{one.Service}: {one.State}, {one.Health or 'no health'}, exit {one.ExitCode}:\n{log}")
    return "\n".join(said)


def _well(one: ComposeContainer) -> bool:
    return one.Health == "healthy" or (one.State == "exited" and one.ExitCode == 0)
