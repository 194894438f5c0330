"""Druid 33: supervisors and tasks at the coordinator-overlord, datasources at the coordinator, SQL at the broker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

import httpx

from penstock.errors import NoDatasourceError, PenstockError, UnavailableError
from penstock.segments import moment
from penstock.services.http import HINT, Http, is_loopback, shown
from penstock.settings import DruidSettings
from penstock.wait import Pending, Progress, until

_INDEXER = "/druid/indexer/v1"
_COORDINATOR = "/druid/coordinator/v1"


@dataclass(frozen=True)
class Supervisor:
    """A supervisor as Druid sees it.  `spec` is Druid's rendering, full of defaults; `context` comes back as sent."""

    id: str
    state: str
    detailed_state: str = ""
    healthy: bool = True
    suspended: bool = False
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.state == "RUNNING" and self.healthy

    @property
    def context(self) -> Mapping[str, Any]:
        return self.spec.get("context") or {}

    @property
    def topic(self) -> str:
        return str(((self.spec.get("spec") or {}).get("ioConfig") or {}).get("topic", ""))


@dataclass(frozen=True)
class Reading:
    """A supervisor's tasks, by id: those that read, with the offsets at which each began, and those that publish.

    All that lies before a start was handed to tasks before it: where those have ended well, it is published.
    """

    active: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    publishing: tuple[str, ...] = ()


#: ISO periods of the segment spans.
PERIODS = {"hour": "PT1H", "day": "P1D", "month": "P1M"}

#: All times that a row can have.
EVER = "0001-01-01/9999-12-31T23:59:59.999"

#: What the broker says of a query that failed because a server it asked was away, busy or just killed.
PASSING = ("No such server", "UNAVAILABLE", "TIMEOUT", "CAPACITY_EXCEEDED", "RUNTIME_FAILURE")


class Druid:
    """One Druid cluster.  Raises UnavailableError where it does not answer, PenstockError where it refuses."""

    def __init__(self, settings: DruidSettings, *, transport: httpx.BaseTransport | None = None) -> None:
        self._http = Http("Druid's coordinator", settings.coordinator, error_text, transport=transport)
        self._broker = settings.broker.rstrip("/")

    def close(self) -> None:
        self._http.close()

    def supervisors(self) -> dict[str, Supervisor]:
        """Return every supervisor by id, terminated ones left out."""
        listed = self._http.request("GET", f"{_INDEXER}/supervisor", params={"full": "true"})
        return {item["id"]: _supervisor(item) for item in listed}

    def supervisor_status(self, name: str) -> Mapping[str, Any]:
        """Return a supervisor's status payload: state, activeTasks, publishingTasks, recentErrors, aggregateLag..."""
        answer = self._http.request("GET", f"{_INDEXER}/supervisor/{quote(name)}/status", missing={})
        return answer.get("payload", {}) if answer else {}

    def post_supervisor(self, spec: Mapping[str, Any]) -> None:
        """Create the supervisor, or replace it by this spec: its tasks publish what they hold and start anew."""
        self._http.request("POST", f"{_INDEXER}/supervisor", json=spec)

    def suspend(self, name: str, *, timeout: float = 120, progress: Progress | None = None) -> None:
        """Suspend a supervisor and wait until its tasks have published what they hold; a suspended one is success."""
        if not self._supervisor(name).suspended:
            self._act(name, "suspend")
        self._await_idle(name, timeout, progress)

    def resume(self, name: str) -> None:
        """Resume a supervisor; one that is not suspended is success."""
        if self._supervisor(name).suspended:
            try:
                self._act(name, "resume")
            except UnavailableError as error:
                hint = "is Kafka up?  Druid asks it for the topic first; `penstock health` says which service is down"
                raise UnavailableError(error.message, hint=hint) from error

    def reset(self, name: str) -> None:
        """Forget the stored offsets: the next tasks read the topic from its start."""
        self._act(name, "reset")

    def reset_offsets(self, name: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Let the next tasks read the topic from these offsets; partitions without one from their start."""
        ends = {"type": "end", "stream": topic, "partitionOffsetMap": {str(p): at for p, at in offsets.items()}}
        path = f"{_INDEXER}/supervisor/{quote(name)}/resetOffsets"
        self._http.request("POST", path, json={"type": "kafka", "partitions": ends})

    def newest(self, name: str, column: str) -> int | None:
        """Return the greatest `__time` or whole-number column of a datasource (epoch ms), None where it has no rows."""
        found = "TIMESTAMP_TO_MILLIS(MAX(__time))" if column == "__time" else f'MAX("{column}")'
        try:
            rows = self.sql(f'SELECT {found} AS m, COUNT(*) AS n FROM "{name}"')
        except NoDatasourceError:
            if self.datasource_loaded(name):
                raise
            return None
        return int(rows[0]["m"]) if rows and rows[0]["n"] else None

    def terminate(self, name: str, *, timeout: float = 120, progress: Progress | None = None) -> None:
        """Take a supervisor away, its rows published first; Druid keeps its offsets.  An absent one is success."""
        if name not in self.supervisors():
            return
        self.suspend(name, timeout=timeout, progress=progress)
        self._act(name, "terminate", missing={})

    def datasource_loaded(self, name: str) -> bool:
        """True where the datasource has segments in use."""
        return bool(self._http.request("GET", f"{_COORDINATOR}/metadata/datasources/{quote(name)}", missing=0))

    def drop_datasource(self, name: str, *, timeout: float = 120, progress: Progress | None = None) -> None:
        """Delete all rows for good, files included; an absent datasource is success.  No task of its may run.

        Segments that are only marked unused would swallow what comes after them: a later life of the datasource gives
        its segments the same ids, and Druid takes them for published while they stay unused.
        """
        self._http.request("DELETE", f"{_COORDINATOR}/datasources/{quote(name)}", missing={})
        task = f"kill_{name}_{uuid4().hex[:12]}"
        self.submit_task({"type": "kill", "id": task, "dataSource": name, "interval": EVER})

        def probe() -> bool | Pending:
            state = self.task_state(task)
            if state == "FAILED":
                raise PenstockError(f"Druid could not delete the rows of {name}: {self.task_failure(task)}")
            return state == "SUCCESS" or Pending("its files are being deleted")

        until(f"Druid's datasource {name}", probe, timeout=timeout, interval=0.5, progress=progress)

    def failures(self, name: str, *, limit: int = 3) -> list[str]:
        """Return why the datasource's newest failed tasks failed, newest first, each in one line."""
        params = {"state": "complete", "datasource": name, "max": 50}
        listed = self._http.request("GET", f"{_INDEXER}/tasks", params=params) or []
        failed = [item for item in listed if item.get("statusCode") == "FAILED"][:limit]
        return [f"{item['id']}: {self._failure(item)}" for item in failed]

    def task_report(self, task_id: str) -> Mapping[str, Any]:
        """Return a task's report: rows read, unparseable ones, the error; empty where there is none (yet)."""
        return self._http.request("GET", f"{_INDEXER}/task/{quote(task_id)}/reports", missing={}) or {}

    def problem(self, name: str) -> str | None:
        """Return what is wrong with a supervisor in one line: its newest error, else its newest failed task's."""
        errors = self.supervisor_status(name).get("recentErrors") or []
        if errors:
            newest = max(errors, key=lambda item: str(item.get("timestamp", "")))
            return _one_line(str(newest.get("message") or newest.get("exceptionClass") or newest))
        return next(iter(self.failures(name, limit=1)), None)

    def reading(self, name: str) -> Reading:
        """Return what the supervisor's tasks read, by the overlord's own state (never behind)."""
        status = self.supervisor_status(name)
        active = {
            task["id"]: {int(partition): int(offset) for partition, offset in (task["startingOffsets"] or {}).items()}
            for task in status.get("activeTasks") or []
        }
        return Reading(active, tuple(task["id"] for task in status.get("publishingTasks") or []))

    def hand_off(self, name: str, groups: Sequence[int]) -> None:
        """Ask the task groups to publish what they hold; others go on from there.  Asked for, not awaited."""
        path = f"{_INDEXER}/supervisor/{quote(name)}/taskGroups/handoff"
        self._http.request("POST", path, json={"taskGroupIds": list(groups)})

    def realtime_segments(self, name: str, start: int, end: int) -> int:
        """Return how many segments that touch `[start, end)` (epoch ms) only running tasks serve."""
        rows = self.sql(
            "SELECT segment_id FROM sys.segments WHERE datasource = %(name)s AND is_realtime = 1 AND is_active = 1 "
            'AND "start" < %(end)s AND "end" > %(start)s',
            {"name": name, "start": _iso(start), "end": _iso(end)},
        )
        return len(rows)

    def fragmented(self, name: str) -> dict[tuple[int, int], tuple[str, ...]]:
        """Return the published intervals (epoch ms) that hold more than one segment, with the segments' ids."""
        rows = self.sql(
            'SELECT "start", "end", segment_id FROM sys.segments '
            "WHERE datasource = %(name)s AND is_active = 1 AND is_published = 1",
            {"name": name},
        )
        found: dict[tuple[int, int], list[str]] = {}
        for row in rows:
            span = (moment("start", row["start"]), moment("end", row["end"]))
            found.setdefault(span, []).append(str(row["segment_id"]))
        return {span: tuple(sorted(ids)) for span, ids in sorted(found.items()) if len(ids) > 1}

    def rules(self, name: str) -> list[Mapping[str, Any]]:
        """Return the datasource's own retention rules."""
        return list(self._http.request("GET", f"{_COORDINATOR}/rules/{quote(name)}") or [])

    def set_rules(self, name: str, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the datasource's retention rules."""
        self._http.request("POST", f"{_COORDINATOR}/rules/{quote(name)}", json=list(rules))

    def totals(self, name: str, start: int, end: int, segment: str) -> dict[int, tuple[int, int]]:
        """Return rows and events (`_rows`) of each segment that has any, by its start; all of `[start, end)`, ms."""
        try:
            rows = self.sql(
                f"SELECT TIMESTAMP_TO_MILLIS(TIME_FLOOR(__time, '{PERIODS[segment]}')) AS s, COUNT(*) AS n, "
                f'SUM("_rows") AS e FROM "{name}" WHERE __time >= MILLIS_TO_TIMESTAMP({start}) '
                f"AND __time < MILLIS_TO_TIMESTAMP({end}) GROUP BY 1"
            )
        except NoDatasourceError:
            if self.datasource_loaded(name):
                raise
            return {}
        return {int(row["s"]): (int(row["n"]), int(row["e"] or 0)) for row in rows}

    def sums(self, name: str, start: int, end: int, columns: Sequence[str]) -> dict[str, float | None]:
        """Return each column's sum over the rows of `[start, end)`, ms; of those that the datasource has as numbers."""
        query = "SELECT COLUMN_NAME AS c FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = %(name)s AND DATA_TYPE IN "
        found = {row["c"] for row in self.sql(query + "('BIGINT', 'DOUBLE', 'FLOAT')", {"name": name})}
        known = [column for column in columns if column in found]
        if not known:
            return {}
        selected = ", ".join(f'SUM("{column}") AS "{column}"' for column in known)
        within = f"__time >= MILLIS_TO_TIMESTAMP({start}) AND __time < MILLIS_TO_TIMESTAMP({end})"
        rows = self.sql(f'SELECT {selected}, COUNT(*) AS "_n" FROM "{name}" WHERE {within}')
        return {column: row[column] for row in rows if row["_n"] for column in known}

    def submit_task(self, spec: Mapping[str, Any]) -> None:
        """Submit a task under its own `id`; one that Druid already has is success."""
        try:
            self._http.request("POST", f"{_INDEXER}/task", json=spec)
        except PenstockError as error:
            if self.task_state(spec["id"]) is None:
                raise error

    def task_state(self, task_id: str) -> str | None:
        """Return RUNNING, SUCCESS or FAILED; None for a task that Druid does not know."""
        answer = self._http.request("GET", f"{_INDEXER}/task/{quote(task_id)}/status", missing={})
        return str(answer["status"]["statusCode"]) if answer else None

    def cancel_task(self, task_id: str) -> None:
        """Cancel a task: it has published all or nothing.  One that has ended, or is not known, is success."""
        if self.task_state(task_id) == "RUNNING":
            self._http.request("POST", f"{_INDEXER}/task/{quote(task_id)}/shutdown", missing={})

    def task_failure(self, task_id: str) -> str:
        """Return why a task failed, in one line."""
        answer = self._http.request("GET", f"{_INDEXER}/task/{quote(task_id)}/status", missing={})
        return self._failure({"id": task_id, "errorMsg": (answer or {}).get("status", {}).get("errorMsg")})

    def sql(
        self, query: str, parameters: Mapping[str, Any] | None = None, *, timeout: float = 60
    ) -> list[dict[str, Any]]:
        """Return a query's rows through pydruid's DB-API, in UTC; `parameters` fill `%(name)s`.

        Raises UnavailableError where the broker does not answer or the datasource has no rows yet, DeclarationError
        where it knows no such user, PenstockError with Druid's reason where the query is wrong.
        """
        import requests
        from pydruid.db import connect, exceptions

        address = urlsplit(self._broker)
        connection = connect(
            host=str(address.hostname),
            port=address.port or (443 if address.scheme == "https" else 80),
            scheme=address.scheme,
            path=f"{address.path}/druid/v2/sql/",
            user=unquote(address.username or "") or None,
            password=unquote(address.password or ""),
            context={"sqlTimeZone": "Etc/UTC", "timeout": int(timeout * 1000)},
            header=True,  # names the columns even where there are no rows
            proxies={"no_proxy": "*"} if is_loopback(self._broker) else None,
        )
        try:
            cursor = connection.cursor()
            cursor.execute(query, parameters)
            rows = cursor.fetchall()
        except exceptions.Error as error:
            if "Unknown error" in str(error):
                self._ask_plainly()
            self._sql_failed(str(error))
        except (requests.RequestException, ValueError, KeyError) as error:
            if isinstance(error, KeyError):
                self._ask_plainly()
            message = f"Druid's broker does not answer at {shown(self._broker)}: {_cause(_one_line(str(error)))}"
            raise UnavailableError(message, hint=HINT) from error
        finally:
            connection.close()
        names = [item[0] for item in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _ask_plainly(self) -> None:
        """Raise what the broker's status says: pydruid hides it where an answer is not one of Druid's own."""
        broker = Http("Druid's broker", self._broker, error_text)
        try:
            broker.request("POST", "/druid/v2/sql/", json={"query": "SELECT 1"})
        finally:
            broker.close()

    def _sql_failed(self, reason: str) -> NoReturn:
        text = _one_line(reason)
        if "Object '" in text and "not found" in text:
            hint = "a datasource is there with its first rows; `penstock plan` says what keeps them away"
            raise NoDatasourceError(f"Druid has no such datasource (yet): {text}", hint=hint)
        if any(word in text for word in PASSING):
            raise UnavailableError(f"Druid's broker at {shown(self._broker)} could not answer: {text}", hint=HINT)
        raise PenstockError(f"Druid refused the query: {text}")

    def _supervisor(self, name: str) -> Supervisor:
        if name not in (known := self.supervisors()):
            raise PenstockError(f"Druid has no supervisor {name!r}")
        return known[name]

    def _act(self, name: str, verb: str, *, missing: Any = None) -> None:
        self._http.request("POST", f"{_INDEXER}/supervisor/{quote(name)}/{verb}", missing=missing)

    def _await_idle(self, name: str, timeout: float, progress: Progress | None) -> None:
        # The overlord is asked, not the supervisor: one just suspended knows of no task until it has looked for them.
        params = {"datasource": name, "type": "index_kafka"}

        def probe() -> bool | Pending:
            listed = self._http.request("GET", f"{_INDEXER}/tasks", params=params) or []
            running = [item["id"] for item in listed if item.get("statusCode") == "RUNNING"]
            return not running or Pending(f"{len(running)} tasks have not published what they hold")

        subject = f"Druid's tasks of {name} publishing"
        hint = "see the indexer's log: `penstock logs druid-indexer`"
        until(subject, probe, timeout=timeout, interval=0.5, progress=progress, hint=hint)

    def _failure(self, task: Mapping[str, Any]) -> str:
        reason = str(task.get("errorMsg") or "")
        report = self.task_report(task["id"]).get("ingestionStatsAndErrors", {}).get("payload", {})
        return _one_line(str(report.get("errorMsg") or reason or "no reason given"))


def _supervisor(item: Mapping[str, Any]) -> Supervisor:
    spec = item.get("spec") or {}
    return Supervisor(
        id=item["id"],
        state=item.get("state", "UNKNOWN"),
        detailed_state=item.get("detailedState") or "",
        healthy=bool(item.get("healthy")),
        suspended=bool(item.get("suspended") or spec.get("suspended")),
        spec=spec,
    )


def error_text(text: str) -> str:
    """Return the reason in one of Druid's error answers, in one line."""
    try:
        answer = json.loads(text)
    except ValueError:
        return _one_line(text)
    if isinstance(answer, dict):
        return _one_line(str(answer.get("errorMessage") or answer.get("error") or answer))
    return _one_line(str(answer))


def _iso(instant: int) -> str:
    """Write epoch ms as Druid writes the ends of segments, so that text compares as time."""
    found = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant)
    return f"{found:%Y-%m-%dT%H:%M:%S}.{instant % 1000:03d}Z"


def _cause(text: str) -> str:
    """Return what a pool of connections says after its own wrapping: "[Errno 111] Connection refused"."""
    return text.rpartition(": ")[2].rstrip("\"')") if "(Caused by " in text else text


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 400 else line[:397] + "..."
