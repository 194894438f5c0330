"""An operator over an environment in memory, run as a worker runs it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "True")

from penstock.airflow import base
from penstock.errors import DeclarationError
from penstock.pipeline import Pipeline

from ..memory import Fault, World
from ..replay.world import RAW, TUMBLE

DECLARED = (TUMBLE, RAW)
RUN = SimpleNamespace(dag_id="penstock_replay", run_id="manual__1", run_after=datetime(2026, 1, 1, tzinfo=UTC))
TWO_HOURS = {"start": "1970-01-01T00:00:00+00:00", "end": "1970-01-01T01:00:00.000Z"}


class Hook:
    """The hook of a world: `fault` kills the process at a call that changes something."""

    def __init__(self, world: World, fault: Fault | None = None, declared: Sequence[Pipeline] = DECLARED) -> None:
        self.settings = world.settings
        self.services = world.services(fault)
        self.declared = {it.name: it for it in declared}

    def pipelines(self, names: Sequence[str] = ()) -> list[Pipeline]:
        unknown = [name for name in names if name not in self.declared]
        if unknown:
            raise DeclarationError(f"no pipeline {unknown[0]!r} is declared")
        return [self.declared[name] for name in names or self.declared]

    def pipeline(self, name: str) -> Pipeline:
        return self.pipelines([name])[0]


class Events(dict[Any, Any]):
    """Where a task adds the events of its assets."""

    def __init__(self) -> None:
        super().__init__()
        self.uris: list[str] = []

    def __missing__(self, key: Any) -> Any:
        return SimpleNamespace(add=lambda asset, extra=None: self.uris.append(asset.uri))


def task(
    kind: Any, world: World, fault: Fault | None = None, *, declared: Sequence[Pipeline] = DECLARED, **arguments: Any
) -> Any:
    made = kind(task_id="t", **({"pipeline": "sales"} | arguments))
    made.__dict__["hook"] = Hook(world, fault, declared)
    return made


def act(kind: Any, world: World, fault: Fault | None = None, *, seconds: float = 120, **arguments: Any) -> Any:
    events = Events()
    it = task(kind, world, fault, **arguments)
    shown: list[str] = []
    it.__dict__["show"] = lambda text: shown.append(base.plain(text))
    result = it.go_on({"dag_run": RUN, "outlet_events": events}, time.time() + seconds)
    return SimpleNamespace(result=result, uris=events.uris, task=it, shown=shown)
