"""The declared pipelines as plain data, for files of DAGs.  Reads the project's files; asks no service, no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from airflow.sdk import Param

from penstock.load import load_pipelines
from penstock.pipeline import Aggregate
from penstock.settings import find_root, load_settings

#: What each task of the shipped DAGs is given, unless it says otherwise.  A mistake or a refusal is never tried again.
DEFAULTS: dict[str, Any] = {
    "deferrable": True,
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "deadline": timedelta(hours=1),
}


@dataclass(frozen=True)
class Declared:
    """One pipeline, as a DAG needs to know it."""

    name: str
    source: str
    windowed: bool
    description: str

    @property
    def doc(self) -> str:
        """Return what Airflow's UI shows of its DAG."""
        kind = "windows" if self.windowed else "rows"
        return f"**{self.name}**: {kind} of `{self.source}`. {self.description}".strip()


@dataclass(frozen=True)
class Project:
    """A project's pipelines, and the arguments that tasks of its DAGs share."""

    folder: Path
    environment: str
    pipelines: tuple[Declared, ...]
    defaults: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [pipeline.name for pipeline in self.pipelines]

    def choice(self) -> Param:
        """Return the field of a form in which one of the pipelines is chosen; the form takes no other name."""
        return Param(type="string", enum=self.names, title="Pipeline", description="One of those declared in jobs/")


def moment(title: str, description: str) -> Param:
    """Return a field for a date and time (UTC), which must be filled in."""
    return Param(type="string", format="date-time", title=title, description=description)


def maybe_moment(title: str, description: str) -> Param:
    """Return a field for a date and time (UTC) that may be left empty."""
    return Param(None, type=["null", "string"], format="date-time", title=title, description=description)


def text(title: str, description: str = "") -> Param:
    """Return a field of text that may be left empty."""
    return Param(None, type=["null", "string"], title=title, description=description or None)


def number(title: str, description: str = "") -> Param:
    """Return a field of a number from 1 on that may be left empty."""
    return Param(None, type=["null", "number"], minimum=1, title=title, description=description or None)


def box(title: str, description: str = "") -> Param:
    """Return a box that is not ticked."""
    return Param(False, type="boolean", title=title, description=description or None)


def project(file: str, environment: str | None = None) -> Project:
    """Return the project that holds `file`, in one of its environments.

    Raises DeclarationError with every mistake of the declarations and the settings: Airflow shows it as the file's
    import error.
    """
    return _project(find_root(Path(file).resolve().parent), environment)


@cache
def _project(folder: Path, environment: str | None) -> Project:
    settings = load_settings(folder, env=environment)
    pipelines = tuple(
        Declared(it.name, it.source.name, isinstance(it.transform, Aggregate), it.description)
        for it in load_pipelines(settings.jobs)
    )
    where = {"project": str(folder), "environment": settings.env.name}
    return Project(folder, settings.env.name, pipelines, {**DEFAULTS, **where})
