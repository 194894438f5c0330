"""Where the native stack keeps its things: one directory, and a socket for the process manager's commands."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from penstock.errors import DeclarationError
from penstock.settings import PORT_OFFSETS, Settings

#: A socket's path holds 107 bytes; the process manager binds it first with ".<pid>" added.
LONGEST_SOCKET = 107 - len(".4194304")

#: What a path may not contain: separators in Java's class path, Kafka's and Derby's lists, the process manager's file.
UNSAFE = set(" \t\n,;:%\"'\\#$*?")


@dataclass(frozen=True)
class Layout:
    """The directories of one stack, all below `state`; only a socket whose path would be too long is elsewhere."""

    state: Path

    @property
    def conf(self) -> Path:
        return self.state / "conf"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def run(self) -> Path:
        return self.state / "run"

    @property
    def tmp(self) -> Path:
        return self.state / "tmp"

    @property
    def supervisord_conf(self) -> Path:
        return self.run / "supervisord.conf"

    @property
    def supervisord_log(self) -> Path:
        return self.run / "supervisord.log"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    @property
    def without(self) -> Path:
        """The groups of parts that `penstock up` was told to leave out."""
        return self.run / "without"

    @property
    def airflow(self) -> Path:
        return self.state / "airflow"

    @property
    def kafka_data(self) -> Path:
        return self.state / "kafka"

    @property
    def socket(self) -> Path:
        """The process manager's socket: in the state directory, or where that is too long in a short private one."""
        inside = self.run / "s.sock"
        if len(os.fsencode(inside)) <= LONGEST_SOCKET:
            return inside
        digest = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"penstock-{os.getuid()}-{digest}" / "s.sock"

    def log_file(self, part: str) -> Path:
        return self.logs / f"{part}.log"

    def args_file(self, part: str) -> Path:
        return self.conf / part / "java.args"

    def cds_file(self, part: str) -> Path:
        return self.conf / part / "cds.args"


def make_private(folder: Path) -> None:
    """Make a directory that only its owner can enter; one of ours that others could enter is closed to them."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.stat()
    if state.st_uid == os.getuid() and state.st_mode & 0o077:
        folder.chmod(0o700)


def layout(settings: Settings) -> Layout:
    """Return the stack's directories; raise DeclarationError for a path that the services' own formats can't hold."""
    state = settings.stack.state
    bad = sorted(set(str(state)) & UNSAFE)
    if bad:
        raise DeclarationError(
            f"state directory {str(state)!r}: the services' settings can't hold {' '.join(map(repr, bad))} in a path",
            hint="choose another in penstock.toml ([stack] state = ...) or with PENSTOCK_STATE",
        )
    return Layout(state)


def pyflink_home() -> Path | None:
    """Return the installed PyFlink's directory, or None; PyFlink itself is not imported."""
    spec = importlib.util.find_spec("pyflink")
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None


def template_values(settings: Settings) -> dict[str, str]:
    """Return what the templates in infra/ may name: every port, the directories, the transaction limit."""
    place = layout(settings)
    return {
        **{name: str(settings.stack.port(name)) for name in PORT_OFFSETS},
        "state": str(place.state),
        "state_uri": place.state.as_uri(),
        "conf": str(place.conf),
        "logs": str(place.logs),
        "run": str(place.run),
        "tmp": str(place.tmp),
        "socket": str(place.socket),
        "jars": str(settings.jars),
        "dags": str(settings.dags),
        "pyflink": str(pyflink_home() or "pyflink-is-not-installed"),
        "kafka_log_dir": str(place.kafka_data),
        "transaction_max_timeout_ms": str(max(3_600_000, int(settings.env.flink.transaction_timeout * 1000))),
    }
