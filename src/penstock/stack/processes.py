"""The operating system's processes: which are ours, which holds a port, and the end of those that must go.

Every process of a stack carries its state directory in the environment variable `MARK`, and so do their children: by it
they are told from all others, whatever became of the process manager that started them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil

MARK = "PENSTOCK_STACK"


def stack_of(process: psutil.Process) -> str | None:
    """Return the state directory of the stack that `process` belongs to; None for others' and unreadable ones."""
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):
        return None


def own(state: Path) -> list[psutil.Process]:
    """Return the living processes of the stack in `state`; never this one or one it descends from."""
    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in spared and stack_of(process) == str(state) and _lives(process)
    ]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end(processes: Iterable[psutil.Process], *, grace: float = 5.0) -> list[psutil.Process]:
    """Ask `processes` to end, kill those that are left after `grace` seconds, and return any that still live."""
    asked = list(processes)
    for process in asked:
        _quietly(process.terminate)
    _, left = psutil.wait_procs(asked, timeout=grace)
    for process in left:
        _quietly(process.kill)
    _, left = psutil.wait_procs(left, timeout=5)
    return [process for process in left if _lives(process)]


def _quietly(signal: Callable[[], object]) -> None:
    with contextlib.suppress(psutil.Error):
        signal()


def memory(pid: int) -> int:
    """Return the bytes that a process holds resident, with those of its children that they share with nobody."""
    try:
        parent = psutil.Process(pid)
        return int(parent.memory_info().rss) + sum(map(_unshared, parent.children(recursive=True)))
    except psutil.Error:
        return 0


def _unshared(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().uss)
    except psutil.Error:
        return 0


def is_free(port: int) -> bool:
    """Say whether `port` of 127.0.0.1 can be listened on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the services do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def holders(ports: Iterable[int]) -> dict[int, psutil.Process]:
    """Return who listens on each of `ports`, as far as this user may see it."""
    wanted = set(ports)
    return {port: process for port, process in _listeners() if port in wanted}


def _listeners() -> Iterator[tuple[int, psutil.Process]]:
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.AccessDenied, OSError):
        return  # some systems show connections to root only
    for connection in connections:
        if connection.status == psutil.CONN_LISTEN and connection.pid and connection.laddr:
            try:
                yield connection.laddr.port, psutil.Process(connection.pid)
            except psutil.Error:
                continue


def describe(process: psutil.Process) -> str:
    """Return "pid 4711 (java ...)", with the stack it belongs to where it is one's own."""
    try:
        words = process.cmdline() or [process.name()]
    except psutil.Error:
        return f"pid {process.pid}"
    line = " ".join([os.path.basename(words[0]), *words[1:]])
    text = f"pid {process.pid} ({line if len(line) <= 80 else line[:77] + '...'})"
    stack = stack_of(process)
    return f"{text} of the stack in {stack}" if stack else text
