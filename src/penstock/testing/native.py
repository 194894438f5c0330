"""A native stack of a test session's own: free ports, its own state, gone at the end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.settings import FILE, PORT_OFFSETS, Settings, load_settings

#: Where free ports are looked for: below the range that outgoing connections take.
PORTS = range(20000, 32000, 200)


def free_port_base() -> int:
    """Return a base from which every port of a stack is free.  Raises RuntimeError where there is none."""
    for base in PORTS:
        sockets = []
        try:
            for offset in PORT_OFFSETS.values():
                sockets.append(socket.socket())
                sockets[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sockets[-1].bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        else:
            return base
        finally:
            for one in sockets:
                one.close()
    raise RuntimeError(f"no free block of ports in {PORTS}")


@contextmanager
def native_stack(root: Path, scratch: Path) -> Iterator[Settings]:
    """Start a stack for the project in `root`, without Airflow, and yield the settings of a copy of the project on it.

    The copy shares jobs and jars; compiled plans, locks and the stack's data are below `scratch`, so that neither a
    stack of the developer's nor another session is touched.  It is down at the end, whatever happens.
    """
    from penstock.stack import down, up
    from penstock.wait import rich_progress

    environ = {
        "PENSTOCK_STATE": str(scratch / "state"),
        "PENSTOCK_PORT_BASE": str(free_port_base()),
        "JAVA_HOME": os.environ.get("JAVA_HOME", ""),
    }
    settings = load_settings(root, env="native", environ=environ)
    with rich_progress("stack") as progress:
        try:
            up(settings, progress, without=["airflow"])
            yield load_settings(_copy(settings, scratch / "project"), env="native", environ=environ)
        finally:
            down(settings, progress)


def _copy(settings: Settings, folder: Path) -> Path:
    (folder / ".penstock").mkdir(parents=True)
    (folder / FILE).write_text((settings.root / FILE).read_text(encoding="utf-8"), encoding="utf-8")
    for there in (settings.jobs, settings.dags):
        link = folder / there.relative_to(settings.root)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(there)
    (folder / ".penstock" / "jars").symlink_to(settings.jars)
    return folder
