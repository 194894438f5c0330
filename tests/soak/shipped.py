"""Projects with the shipped jobs and DAGs as `penstock init` makes them: their own, so that a test can change them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from penstock.settings import Settings
from penstock.testing.project import project

from ..cli import ROOT, Cli

#: The Python examples of docs/airflow.md, in their order.
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/airflow.md").read_text(encoding="utf-8"), re.DOTALL)


def ship(stack: Settings, folder: Path) -> Cli:
    """Make a project of the shipped jobs and DAGs."""
    jobs = folder / "jobs-of"
    shutil.copytree(ROOT / "jobs", jobs, ignore=shutil.ignore_patterns("__pycache__"))
    topic = jobs / "_flights.py"
    text = topic.read_text(encoding="utf-8")
    assert 'idle_after="5 min"' in text
    # Five minutes of silence until a partition is idle, which an upgrade waits for, are too long for a test.
    topic.write_text(text.replace('idle_after="5 min"', 'idle_after="5 s"'), encoding="utf-8")
    made = Cli(stack, project(stack, folder / "project", jobs).root, "flights.departed.v1")
    add_dags(made)
    return made


def add_dags(cli: Cli) -> Path:
    """Copy the shipped DAGs into a project's folder, and return that."""
    dags = cli.project / "dags"
    shutil.copytree(ROOT / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return dags


def serve_dags(stack: Settings, dags: Path) -> None:
    """Let the stack's Airflow read these DAGs and no others; a link is its target's project's."""
    assert stack.dags is not None
    for link in stack.dags.glob("*.py"):
        link.unlink()
    for file in dags.glob("*.py"):
        (stack.dags / file.name).symlink_to(file)
