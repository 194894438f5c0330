"""What the machine must offer: each question a function of the settings that answers with a `Check`.

`penstock up` asks those that it needs before anything is started; `penstock doctor` asks all.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from penstock.errors import DeclarationError, UnavailableError
from penstock.settings import Settings
from penstock.stack import airflow, java, processes, shipped
from penstock.stack.layout import Layout, layout, make_private, pyflink_home
from penstock.stack.manager import Manager
from penstock.stack.parts import parts_in_use

#: MiB.  Idle the parts take 3 GB, Airflow among them; with less than this there is nothing left to work with, and with
#: less than ENOUGH a few jobs at full speed get slow.
LEAST_MB, ENOUGH_MB = 4096, 6144
#: MiB of disk below which Kafka and Druid soon stop.
LEAST_DISK_MB = 2048

#: One jar of each directory that proves the build went through.
JARS = {
    "kafka": ("kafka_2.13-*.jar", "kafka-tools-*.jar"),
    "druid": ("druid-services-*.jar", "druid-kafka-indexing-service-*.jar", "zookeeper-*.jar"),
    "flink": ("flink-sql-connector-kafka-*.jar",),
}


@dataclass(frozen=True)
class Check:
    """An answer: `detail` is what was found, `hint` what to do about it."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}" + (f"; {self.hint}" if self.hint else "")


def needed(settings: Settings) -> tuple[Callable[[], Check], ...]:
    """Return the questions that `penstock up` asks."""
    return (
        lambda: java_check(settings),
        lambda: pyflink_check(),
        lambda: supervisor_check(),
        lambda: jars_check(settings),
        lambda: memory_check(settings),
        lambda: disk_check(settings),
        lambda: ports_check(settings),
    )


def refuse_unless_ready(settings: Settings) -> list[Check]:
    """Ask all that `up` needs, and raise DeclarationError with every answer that stands against it."""
    answers = [ask() for ask in needed(settings)]
    failed = [str(check) for check in answers if check.state == "failed"]
    if failed:
        raise DeclarationError(failed)
    return answers


def java_check(settings: Settings) -> Check:
    """Java is there, and not too old."""
    found = java.find(settings.stack)
    hint = f"install a JDK of version {java.OLDEST} or newer and put it on PATH, or set JAVA_HOME"
    if found is None:
        home = settings.stack.java_home
        return Check("java", "failed", f"no bin/java in {home}" if home else "no `java` on PATH", hint)
    version = java.version(found)
    if version is None:
        return Check("java", "failed", f"{found} does not tell its version", hint)
    if version < java.OLDEST:
        return Check("java", "failed", f"{found} is version {version}, at least {java.OLDEST} is needed", hint)
    return Check("java", "ok", f"version {version} ({found})")


def pyflink_check() -> Check:
    """PyFlink is installed: its jars are Flink."""
    home = pyflink_home()
    if home is None or not list(home.glob("lib/flink-dist-*.jar")):
        return Check("flink", "failed", "PyFlink is not installed (its jars are Flink)", "run `make setup`")
    return Check("flink", "ok", next(home.glob("lib/flink-dist-*.jar")).stem)


def supervisor_check() -> Check:
    """The process manager is installed."""
    import importlib.util

    if importlib.util.find_spec("supervisor") is None:
        return Check("supervisor", "failed", "not installed", "run `make setup`")
    return Check("supervisor", "ok", "installed")


def airflow_check() -> Check:
    """Airflow is installed; the stack runs without it."""
    if not airflow.installed():
        hint = "install penstock with its extra `airflow`, or run `make setup`"
        return Check("airflow", "warning", "not installed: the stack runs without it", hint)
    return Check("airflow", "ok", airflow.version())


def jars_check(settings: Settings) -> Check:
    """The jars are where Maven puts them."""
    missing = [
        f"{folder}/{pattern}"
        for folder, patterns in JARS.items()
        for pattern in patterns
        if not list((settings.jars / folder).glob(pattern))
    ]
    if missing and not shipped.own(settings):
        if shutil.which("mvn") is None:
            return Check("jars", "failed", "not fetched yet, and no `mvn` on PATH", "install Maven")
        return Check("jars", "warning", "not fetched yet", "`penstock up` does so, by Maven")
    if missing:
        return Check("jars", "failed", f"missing in {settings.jars}: {', '.join(missing)}", "run `make setup`")
    return Check("jars", "ok", f"{len(list(settings.jars.glob('*/*.jar')))} in {settings.jars}")


def memory_check(settings: Settings) -> Check:
    """Memory is enough for the parts that do not run yet."""
    mine = sum(_rss(process) for process in processes.own(settings.stack.state))
    available = (available_bytes() + mine) >> 20
    detail = f"{available:,} MiB available"
    if available < LEAST_MB:
        return Check("memory", "failed", f"{detail}, at least {LEAST_MB:,} are needed", "end other programs")
    if available < ENOUGH_MB:
        return Check("memory", "warning", f"{detail}; with less than {ENOUGH_MB:,} jobs are slow", "end other programs")
    return Check("memory", "ok", detail)


def available_bytes() -> int:
    """Return the memory that can still be had: of the machine, or of the container that this runs in."""
    return min([psutil.virtual_memory().available, *_container_bytes(Path("/sys/fs/cgroup"))])


def _container_bytes(cgroup: Path) -> list[int]:
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return []
    # Pages of files that were not used lately are counted as used, but given up when asked for.
    return [] if limit == "max" else [int(limit) - used + int(stat.get("inactive_file", 0))]


def disk_check(settings: Settings) -> Check:
    """The state directory's disk has room."""
    place = settings.stack.state
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free >> 20
    if free < LEAST_DISK_MB:
        need = f"at least {LEAST_DISK_MB:,} are needed"
        return Check("disk", "failed", f"{free:,} MiB free in {place}, {need}", "free some")
    return Check("disk", "ok", f"{free:,} MiB free in {place}")


def ports_check(settings: Settings) -> Check:
    """Every port is free, or held by this very stack."""
    wanted = {settings.stack.port(name): part.name for part in parts_in_use(settings) for name in part.ports}
    busy = [port for port in wanted if not processes.is_free(port)]
    held = processes.holders(busy) if busy else {}
    mine = str(settings.stack.state)
    foreign = [
        f"port {port} of {wanted[port]} is in use by "
        + (processes.describe(held[port]) if port in held else "a process this user can't see")
        for port in busy
        if port not in held or processes.stack_of(held[port]) != mine
    ]
    if foreign:
        hint = "end it, or choose other ports with PENSTOCK_PORT_BASE or [stack] port_base in penstock.toml"
        return Check("ports", "failed", "; ".join(foreign), hint)
    state = f"held by this stack: {len(busy)}" if busy else "all free"
    return Check("ports", "ok", f"{min(wanted)} to {max(wanted)}: {state}")


def state_check(settings: Settings) -> Check:
    """The state directory can be written to, without leaving anything in it."""
    place = settings.stack.state
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Check("state", "failed", f"{place} is not writable", _STATE_HINT)
    return Check("state", "ok", str(settings.stack.state))


_STATE_HINT = "choose another directory with PENSTOCK_STATE or [stack] state in penstock.toml"


def make_state(settings: Settings) -> Layout:
    """Make the state directory, for its owner only; raise DeclarationError where it can't be written to."""
    place = layout(settings)
    try:
        make_private(place.state)
        place.run.mkdir(exist_ok=True)
        trial = place.run / f"trial-{os.getpid()}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise DeclarationError(f"state directory {place.state}: {error.strerror}", hint=_STATE_HINT) from None
    return place


def tool_check(name: str, why: str) -> Check:
    """A program is on PATH.  The stack runs without it once it is set up."""
    found = shutil.which(name)
    return Check(name, "ok", found) if found else Check(name, "warning", "not on PATH", f"install it: it {why}")


def python_check() -> Check:
    """Python is one that PyFlink supports."""
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Check("python", "ok", f"{version} ({sys.executable})")
    return Check("python", "failed", f"{version} ({sys.executable}), 3.11 or 3.12 is needed", "run `make setup`")


def manager_check(settings: Settings) -> Check:
    """No process of this stack is without its process manager."""
    strays = processes.own(settings.stack.state)
    try:
        manager = Manager(layout(settings)).pid()
    except UnavailableError:
        if not strays:
            return Check("stack", "ok", "not running")
        told = ", ".join(map(processes.describe, strays))
        return Check("stack", "failed", f"runs without its process manager: {told}", "penstock down")
    return Check("stack", "ok", f"running, process manager pid {manager}")


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
