"""The in-memory twin of `Druid`, for tests: supervisors, datasources, stored offsets, and a cluster that is down."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from penstock.errors import PenstockError, UnavailableError
from penstock.services.druid import Supervisor
from penstock.wait import Progress


class MemoryDruid:
    """`down = True` makes every call raise UnavailableError.

    `offsets` holds the datasources whose offsets are stored, `dropped` those whose segments were marked unused.
    """

    def __init__(self) -> None:
        self.down = False
        self.offsets: set[str] = set()
        self.dropped: set[str] = set()
        self._supervisors: dict[str, Supervisor] = {}

    def set_state(self, name: str, state: str, *, healthy: bool = True) -> None:
        """Put a supervisor into a state, as tests need it."""
        self._supervisors[name] = replace(self._supervisors[name], state=state, detailed_state=state, healthy=healthy)

    def supervisors(self) -> dict[str, Supervisor]:
        self._reach()
        return dict(self._supervisors)

    def post_supervisor(self, spec: Mapping[str, Any]) -> None:
        self._reach()
        name = spec["spec"]["dataSchema"]["dataSource"]
        self._supervisors[name] = Supervisor(name, "RUNNING", "RUNNING", spec=json.loads(json.dumps(spec)))
        self.offsets.add(name)
        self.dropped.discard(name)

    def suspend(self, name: str, *, timeout: float = 120, progress: Progress | None = None) -> None:
        self._change(name, state="SUSPENDED", detailed_state="SUSPENDED", suspended=True)

    def resume(self, name: str) -> None:
        self._change(name, state="RUNNING", detailed_state="RUNNING", suspended=False)
        self.offsets.add(name)

    def reset(self, name: str) -> None:
        self._change(name)
        self.offsets.discard(name)

    def terminate(self, name: str, *, timeout: float = 120, progress: Progress | None = None) -> None:
        self._reach()
        self._supervisors.pop(name, None)

    def drop_datasource(self, name: str) -> None:
        self._reach()
        self.dropped.add(name)

    def problem(self, name: str) -> str | None:
        self._reach()
        return None if self._supervisors[name].healthy else "the reason in one line"

    def _change(self, name: str, **changes: Any) -> None:
        self._reach()
        if name not in self._supervisors:
            raise PenstockError(f"Druid has no supervisor {name!r}")
        self._supervisors[name] = replace(self._supervisors[name], **changes)

    def _reach(self) -> None:
        if self.down:
            raise UnavailableError("Druid's coordinator does not answer at memory")
