"""The stack that is measured on: its own ports and state, down and gone at the end whatever happens."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from penstock.errors import UnavailableError
from penstock.services.protocols import Services, connect
from penstock.settings import Settings
from penstock.stack import status
from penstock.testing.native import running
from penstock.testing.project import project
from penstock.wait import Progress

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Stage:
    """A running stack.  `settings` is of a project of its own: compiled plans, locks and logs are not the user's."""

    settings: Settings
    services: Services
    progress: Progress

    def cpu_seconds(self, part: str) -> float:
        """Return the processor time that a part of the stack has used so far."""
        pid = next((item.pid for item in status(self.settings) if item.name == part), None)
        if pid is None:
            raise UnavailableError(f"{part} does not run")
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)


def load() -> float:
    """Return the machine's load average of the last minute, by which a figure of a busy machine is known."""
    return os.getloadavg()[0]


@contextmanager
def stage(progress: Progress) -> Iterator[Stage]:
    """Start a stack without Airflow, and take it down at the end with all its data."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    try:
        with running(ROOT, folder / "stack", progress=progress) as stack:
            settings = project(stack, folder / "project")
            yield Stage(settings, connect(settings), progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
