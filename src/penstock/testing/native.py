"""A native stack of a test session's own: free ports, its own state, gone at the end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from penstock.settings import PORT_OFFSETS, Settings, load_settings
from penstock.testing.project import project
from penstock.wait import Progress, rich_progress

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
    """Start a stack for the project in `root`, and yield the settings of a copy of the project on it.

    The copy shares jobs and jars; compiled plans, locks and the stack's data are below `scratch`, so that neither a
    stack of the developer's nor another session is touched.
    """
    with running(root, scratch / "state") as settings:
        yield project(settings, scratch / "project", settings.jobs)


@contextmanager
def running(root: Path, state: Path, dags: Path | None = None, progress: Progress | None = None) -> Iterator[Settings]:
    """Start a stack with its data in `state`, without Airflow, and yield its settings; down at the end, whatever
    happens.  `dags` are those that Airflow would have, in place of the project's.
    """
    from penstock.stack import down, up

    environ = {
        "PENSTOCK_STATE": str(state),
        "PENSTOCK_PORT_BASE": str(free_port_base()),
        "JAVA_HOME": os.environ.get("JAVA_HOME", ""),
    }
    settings = load_settings(root, env="native", environ=environ)
    if dags is not None:
        settings = settings.model_copy(update={"dags": dags})
    with nullcontext(progress) if progress else rich_progress("stack") as show:
        try:
            up(settings, show, without=["airflow"])
            yield settings
        finally:
            down(settings, show)
