"""The in-memory twin of `Druid`, for tests: supervisors, datasources, stored offsets, and a cluster that is down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.errors import PenstockError, UnavailableError
from penstock.segments import floor, moment
from penstock.services.druid import Reading, Supervisor
from penstock.wait import Progress

Row = tuple[int, int]


class MemoryDruid:
    """`down = True` makes every call raise UnavailableError.

    `offsets` holds the datasources whose offsets are stored, `dropped` those whose rows were deleted.  Rows
    are (time, events) pairs: `held` ones are with a running task, `published` ones in segments.  `failure` is why tasks
    fail.
    """

    def __init__(self) -> None:
        self.down = False
        self.offsets: set[str] = set()
        self.dropped: set[str] = set()
        self._supervisors: dict[str, Supervisor] = {}
        self.held: dict[str, list[Row]] = {}
        self.published: dict[str, list[Row]] = {}
        self.tasks: dict[str, str] = {}
        self.failure = "the reason in one line"
        self.fragments: dict[str, dict[tuple[int, int], tuple[str, ...]]] = {}
        self.own_rules: dict[str, list[Mapping[str, Any]]] = {}
        self._read: dict[str, dict[int, int]] = {}
        self._began: dict[str, tuple[str, dict[int, int]]] = {}

    def ingest(self, name: str, partition: int, offset: int, row: Row) -> None:
        """Let the running task of a datasource read a row of its topic, once."""
        if self._read.setdefault(name, {}).get(partition, 0) > offset:
            return
        self._read[name][partition] = offset + 1
        self.held.setdefault(name, []).append(row)

    def fail_task(self, name: str) -> None:
        """Let the task that handed off last fail after all: its successor holds its rows, as if read again."""
        self.held[name] = [*self.published.pop(name, []), *self.held.get(name, [])]
        self._began.pop(name, None)

    def lose(self, name: str, start: int, end: int) -> None:
        """Lose the rows of `[start, end)` (epoch ms), as when somebody drops segments."""
        for rows in (self.held, self.published):
            rows[name] = [row for row in rows.get(name, []) if not start <= row[0] < end]

    def rows(self, name: str) -> list[Row]:
        """Return all that a query sees."""
        return sorted([*self.published.get(name, []), *self.held.get(name, [])])

    def set_state(self, name: str, state: str, *, healthy: bool = True) -> None:
        """Put a supervisor into a state, as tests need it."""
        self._supervisors[name] = replace(self._supervisors[name], state=state, detailed_state=state, healthy=healthy)

    def supervisors(self) -> dict[str, Supervisor]:
        self._reach()
        return dict(self._supervisors)

    def post_supervisor(self, spec: Mapping[str, Any]) -> None:
        self._reach()
        name, suspended = spec["spec"]["dataSchema"]["dataSource"], bool(spec.get("suspended"))
        state = "SUSPENDED" if suspended else "RUNNING"
        plain = json.loads(json.dumps(spec))
        self._supervisors[name] = Supervisor(name, state, state, suspended=suspended, spec=plain)
        self.offsets.add(name)
        self.dropped.discard(name)

    def suspend(self, name: str, *, timeout: float = 120, progress: Progress | None = None) -> None:
        self._change(name, state="SUSPENDED", detailed_state="SUSPENDED", suspended=True)
        self.published[name] = [*self.published.get(name, []), *self.held.pop(name, [])]

    def resume(self, name: str) -> None:
        self._change(name, state="RUNNING", detailed_state="RUNNING", suspended=False)
        self.offsets.add(name)

    def reset(self, name: str) -> None:
        self._change(name)
        self.offsets.discard(name)
        self._read.pop(name, None)
        self._began.pop(name, None)

    def reset_offsets(self, name: str, topic: str, offsets: Mapping[int, int]) -> None:
        self._change(name)
        self.offsets.add(name)
        self._read[name] = dict(offsets)

    def newest(self, name: str, column: str) -> int | None:
        """Return the newest time; `window_end` is the next minute's start, as the tests' windows are minutes."""
        self._reach()
        times = [time for time, _ in self.rows(name)]
        return max(times) + (60_000 if column == "window_end" else 0) if times else None

    def terminate(self, name: str, *, timeout: float = 120, progress: Progress | None = None) -> None:
        self._reach()
        self._supervisors.pop(name, None)

    def drop_datasource(self, name: str, *, timeout: float = 120, progress: Progress | None = None) -> None:
        self._reach()
        self.dropped.add(name)
        self.published.pop(name, None)
        self.held.pop(name, None)

    def problem(self, name: str) -> str | None:
        self._reach()
        return None if self._supervisors[name].healthy else "the reason in one line"

    def reading(self, name: str) -> Reading:
        self._reach()
        if name not in self._supervisors or self._supervisors[name].suspended:
            return Reading()
        task, began = self._began.get(name, (f"index_kafka_{name}_0", {}))
        partitions = self._read.get(name, {})
        return Reading({task: {partition: began.get(partition, 0) for partition in partitions}})

    def hand_off(self, name: str, groups: Sequence[int]) -> None:
        self._reach()
        task, _ = self._began.get(name, (f"index_kafka_{name}_0", {}))
        self.tasks[task] = "SUCCESS"
        self.published[name] = [*self.published.get(name, []), *self.held.pop(name, [])]
        self._began[name] = (f"{task.rpartition('_')[0]}_{len(self.tasks)}", dict(self._read.get(name, {})))

    def realtime_segments(self, name: str, start: int, end: int) -> int:
        self._reach()
        return sum(1 for time, _ in self.held.get(name, []) if start <= time < end)

    def totals(self, name: str, start: int, end: int, segment: str) -> dict[int, tuple[int, int]]:
        self._reach()
        found: dict[int, tuple[int, int]] = {}
        for time, events in self.rows(name):
            if start <= time < end:
                at = floor(time, segment)
                count, total = found.get(at, (0, 0))
                found[at] = (count + 1, total + events)
        return found

    def sums(self, name: str, start: int, end: int, columns: Sequence[str]) -> dict[str, float | None]:
        """Of rows that are (time, events) there is one measure, their count `n`."""
        self._reach()
        events = [events for time, events in self.rows(name) if start <= time < end]
        return {column: sum(events) for column in columns if column == "n" and events}

    def submit_task(self, spec: Mapping[str, Any]) -> None:
        """Replace the rows of the spec's interval, at once: those that a running task holds stay, as in Druid."""
        self._reach()
        if spec["id"] in self.tasks:
            return
        if spec["type"] == "compact":
            first, last = spec["ioConfig"]["inputSpec"]["interval"].split("/")
            self.fragments[spec["dataSource"]].pop((moment("interval", first), moment("interval", last)), None)
            self.tasks[spec["id"]] = "SUCCESS"
            return
        schema = spec["spec"]["dataSchema"]
        name, time = schema["dataSource"], schema["timestampSpec"]["column"]
        first, last = (moment("interval", end) for end in schema["granularitySpec"]["intervals"][0].split("/"))
        kept = [row for row in self.published.get(name, []) if not first <= row[0] < last]
        source = spec["spec"]["ioConfig"]["inputSource"]
        if source.get("data") == "":
            raise PenstockError("Druid's coordinator refused POST /druid/indexer/v1/task (400): empty data")
        for file in source.get("files", []):
            for line in Path(file).read_text(encoding="utf-8").splitlines():
                table = json.loads(line)
                kept.append((table[time], table.get("_rows", 1)))
        self.published[name] = kept
        self.tasks[spec["id"]] = "SUCCESS"

    def task_state(self, task_id: str) -> str | None:
        self._reach()
        return self.tasks.get(task_id)

    def cancel_task(self, task_id: str) -> None:
        self._reach()
        if self.tasks.get(task_id) == "RUNNING":
            self.tasks[task_id] = "FAILED"

    def fragmented(self, name: str) -> dict[tuple[int, int], tuple[str, ...]]:
        self._reach()
        return dict(self.fragments.get(name, {}))

    def rules(self, name: str) -> list[Mapping[str, Any]]:
        self._reach()
        return list(self.own_rules.get(name, []))

    def set_rules(self, name: str, rules: Sequence[Mapping[str, Any]]) -> None:
        self._reach()
        self.own_rules[name] = list(rules)

    def sql(
        self, query: str, parameters: Mapping[str, Any] | None = None, *, timeout: float = 60
    ) -> list[dict[str, Any]]:
        self._reach()
        return []

    def task_failure(self, task_id: str) -> str:
        self._reach()
        return self.failure

    def _change(self, name: str, **changes: Any) -> None:
        self._reach()
        if name not in self._supervisors:
            raise PenstockError(f"Druid has no supervisor {name!r}")
        self._supervisors[name] = replace(self._supervisors[name], **changes)

    def _reach(self) -> None:
        if self.down:
            raise UnavailableError("Druid's coordinator does not answer at memory")
