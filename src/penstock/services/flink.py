"""Flink over its REST API (2.2): jobs, savepoints, checkpoints, watermarks, exceptions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from penstock.errors import PenstockError
from penstock.services.http import Http
from penstock.settings import FlinkSettings
from penstock.wait import Pending, Progress, until

#: States in which a job holds its id and its sources; a second one of its name must not be started.
LIVE = frozenset({"INITIALIZING", "CREATED", "RUNNING", "RESTARTING", "RECONCILING", "SUSPENDED"})
#: States on the way to an end.
LEAVING = frozenset({"FAILING", "CANCELLING"})

#: Flink's watermark before the first one.
NO_WATERMARK = -(2**63)


@dataclass(frozen=True)
class Job:
    """A job as Flink sees it; times are epoch milliseconds, tasks are subtasks, `ended` is None for a live job."""

    id: str
    name: str
    state: str
    started: int = 0
    ended: int | None = None
    running_tasks: int = 0
    total_tasks: int = 0

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def leaving(self) -> bool:
        return self.state in LEAVING

    @property
    def running(self) -> bool:
        """True where every task runs; the state alone says RUNNING while tasks are still being deployed."""
        return self.state == "RUNNING" and self.running_tasks == self.total_tasks > 0


@dataclass(frozen=True)
class RestorePoint:
    """Where an ended job can be resumed: the newest state's path, or None.

    `never` is True where it is certain that the job completed no checkpoint, whatever it was restored from.  An
    exactly-once job that never did has committed nothing, so the same start can be repeated without loss.  `unseen` is
    True where nobody could tell: Flink has forgotten the job, and its files are out of sight.
    """

    path: str | None = None
    never: bool = False
    unseen: bool = False


class Flink:
    """One session cluster.  Raises UnavailableError where it does not answer, PenstockError where it refuses."""

    def __init__(self, settings: FlinkSettings, *, transport: httpx.BaseTransport | None = None) -> None:
        self._http = Http("Flink", settings.rest, _reason, transport=transport)
        self._state = settings.state

    def close(self) -> None:
        self._http.close()

    def overview(self) -> Mapping[str, Any]:
        """Return the cluster's figures: taskmanagers, slots-total, slots-available, jobs-running, flink-version..."""
        return self._get("/overview")  # type: ignore[no-any-return]

    def jobs(self) -> list[Job]:
        """Return every job that Flink remembers, newest first; ended ones are remembered for a while."""
        listed = [_job(item) for item in self._get("/jobs/overview")["jobs"]]
        return sorted(listed, key=lambda job: job.started, reverse=True)

    def job(self, job_id: str) -> Job | None:
        """Return one job, None where Flink does not know it."""
        return next((job for job in self.jobs() if job.id == job_id), None)

    def detail(self, job_id: str) -> Mapping[str, Any]:
        """Return `/jobs/<id>` as Flink answers it: vertices, plan, timestamps; PenstockError for an unknown id."""
        return self._get(f"/jobs/{job_id}")  # type: ignore[no-any-return]

    def stop_with_savepoint(
        self, job_id: str, target_dir: str, *, timeout: float = 120, progress: Progress | None = None
    ) -> str:
        """Stop a job after a savepoint under the URI `target_dir`, wait for its end, return the savepoint's path.

        A job that is stopping or has ended gives the newest state it left.  A savepoint that fails is tried again until
        `timeout` (seconds).  Raises PenstockError for a job that ended and left nothing.
        """
        request: list[str] = []

        def probe() -> str | Pending:
            job = self.job(job_id)
            if job is None or not (job.live or job.leaving):
                return self._left(job_id, job, target_dir)
            if not request:
                body = {"targetDirectory": target_dir, "drain": False, "formatType": "CANONICAL"}
                request.append(self._post(f"/jobs/{job_id}/stop", body)["request-id"])
            operation = self._get(f"/jobs/{job_id}/savepoints/{request[0]}", missing={"status": {"id": "LOST"}})
            if operation["status"]["id"] == "IN_PROGRESS":
                return Pending(f"{job.state}, taking a savepoint")
            if "location" in operation.get("operation", {}):
                # The savepoint is there; the next look sees the job ended, or waits for that.
                return Pending(f"{job.state}, savepoint taken")
            request.clear()
            return Pending(f"{job.state}, the savepoint failed: {_cause(operation)}{self._because(job)}")

        return until(
            f"job {job_id} stopping with a savepoint",
            probe,
            timeout=timeout,
            interval=0.2,
            progress=progress,
            hint="a job that can't take a savepoint can be cancelled: it resumes from its last checkpoint "
            "(`penstock stop NAME --cancel`)",
        )

    def _left(self, job_id: str, job: Job | None, target_dir: str) -> str:
        """Return the newest state that an ended job left: its savepoint, or where it failed, its last checkpoint."""
        point = self.restore_point(job_id, target_dir)
        if point.path is None:
            state = "unknown to Flink" if job is None else job.state
            raise PenstockError(f"job {job_id} is {state} and left no savepoint in {target_dir}, nor a checkpoint")
        return point.path

    def _because(self, job: Job) -> str:
        reason = None if job.state == "RUNNING" else self.root_exception(job.id)
        return f" ({reason})" if reason else ""

    def cancel(self, job_id: str, *, timeout: float = 60) -> None:
        """Cancel a job and wait until it has ended; its last checkpoint is retained.  An ended job is success."""

        def probe() -> bool | Pending:
            job = self.job(job_id)
            if job is None or not (job.live or job.leaving):
                return True
            if job.live:
                self._http.request("PATCH", f"/jobs/{job_id}", params={"mode": "cancel"}, missing={})
            return Pending(job.state)

        until(f"job {job_id} being cancelled", probe, timeout=timeout, interval=0.2)

    def trigger_checkpoint(self, job_id: str, *, timeout: float = 60) -> int:
        """Trigger a checkpoint, wait until it is complete, return its id.  Raises PenstockError where it fails."""
        request = self._post(f"/jobs/{job_id}/checkpoints", {"checkpointType": "CONFIGURED"})["request-id"]

        def probe() -> int | Pending:
            answer = self._get(f"/jobs/{job_id}/checkpoints/{request}")
            operation = answer.get("operation") or {}
            if answer["status"]["id"] == "IN_PROGRESS":
                return Pending("in progress")
            if operation.get("checkpointId") is None:
                raise PenstockError(f"job {job_id}: the checkpoint failed: {_cause(answer)}")
            return int(operation["checkpointId"])

        return until(f"a checkpoint of job {job_id}", probe, timeout=timeout, interval=0.1)

    def latest_checkpoint(self, job_id: str) -> tuple[int, str] | None:
        """Return id and path of the newest state (checkpoint, savepoint or what it was restored from), else None."""
        stats = self._get(f"/jobs/{job_id}/checkpoints", missing={})
        return _newest(stats)

    def checkpointed(self, job_id: str) -> int | None:
        """Return when the job's newest checkpoint was complete (epoch ms), None where there is none yet."""
        newest = (self._get(f"/jobs/{job_id}/checkpoints", missing={}).get("latest") or {}).get("completed") or {}
        return int(newest["latest_ack_timestamp"]) if newest else None

    def restored(self, job_id: str) -> tuple[int, int]:
        """Return how often the job was restored and when last (epoch ms): the same while it has not gone back."""
        stats = self._get(f"/jobs/{job_id}/checkpoints", missing={})
        newest = (stats.get("latest") or {}).get("restored") or {}
        return int(stats.get("counts", {}).get("restored", 0)), int(newest.get("restore_timestamp", 0))

    def deployed(self, job_id: str) -> int:
        """Return when tasks of the job were last deployed (epoch ms); a restore may have waited for slots before."""
        vertices = self._get(f"/jobs/{job_id}", missing={}).get("vertices") or []
        return max((int(vertex.get("start-time", 0)) for vertex in vertices), default=0)

    def completed_checkpoints(self, job_id: str) -> int:
        """Return how many checkpoints the job has completed since it was started; savepoints count, restores don't."""
        stats = self._get(f"/jobs/{job_id}/checkpoints", missing={})
        return int(stats.get("counts", {}).get("completed", 0))

    def metrics(self, job_id: str, vertex: str, wanted: Callable[[str], bool]) -> dict[str, float]:
        """Return the `wanted` ones of a vertex's metrics (`<subtask>.<operator>.<name>`), as of a second ago."""
        path = f"/jobs/{job_id}/vertices/{vertex}/metrics"
        names = [item["id"] for item in self._get(path, missing=[]) if wanted(item["id"])]
        found: dict[str, float] = {}
        for some in (names[at : at + 40] for at in range(0, len(names), 40)):  # a longer address is refused
            for item in self._get(path, params={"get": ",".join(some)}, missing=[]):
                found[item["id"]] = float(item["value"])
        return found

    def backpressure(self, job_id: str, vertex: str) -> Mapping[str, Any]:
        """Return how busy and how held up a vertex's subtasks are; its `status` is `ok` once there are figures."""
        return self._get(f"/jobs/{job_id}/vertices/{vertex}/backpressure", missing={})  # type: ignore[no-any-return]

    def checkpoint_stats(self, job_id: str) -> Mapping[str, Any]:
        """Return counts, sizes and durations of a job's checkpoints as Flink answers them."""
        return self._get(f"/jobs/{job_id}/checkpoints", missing={})  # type: ignore[no-any-return]

    def records_read(self, job_id: str) -> int:
        """Return the records that the job's sources have read so far, as of its last figures (a second old)."""
        vertices = self.detail(job_id)["vertices"]
        return sum(int(it["metrics"]["read-records"]) for it in vertices if it["name"].startswith("Source:"))

    def restore_point(self, job_id: str, savepoints: str = "") -> RestorePoint:
        """Return where an ended job can be resumed: its newest checkpoint, or savepoint under the URI `savepoints`.

        Files that can be seen decide, since Flink forgets ended jobs and may list what is gone; else its record does.
        """
        stats = self._get(f"/jobs/{job_id}/checkpoints", missing={})
        never = bool(stats) and _did_nothing(stats, job_id)
        folders = [local(f"{self._state}/checkpoints"), local(savepoints)]
        # Before the first checkpoint of all there is only what they will lie in.
        if any(folder is not None and folder.is_dir() for folder in (local(self._state), *folders)):
            found = newest_state(job_id, *folders)
            return RestorePoint(found, never and found is None)
        newest = _newest(stats)
        return RestorePoint(newest[1] if newest else None, never and newest is None, unseen=not stats)

    def watermarks(self, job_id: str) -> dict[str, int | None]:
        """Return each vertex's input watermark (epoch ms): the least of its subtasks, None where one has none yet.

        Vertices without an input (sources with what is chained to them) have no such metric and are left out.
        """
        found: dict[str, int | None] = {}
        for vertex in self.detail(job_id)["vertices"]:
            values = [int(item["value"]) for item in self._get(f"/jobs/{job_id}/vertices/{vertex['id']}/watermarks")]
            if values:
                found[vertex["name"]] = None if min(values) == NO_WATERMARK else min(values)
        return found

    def watermark(self, job_id: str) -> int | None:
        """Return the job's watermark: the least of its vertices', None where there is none yet."""
        values = list(self.watermarks(job_id).values())
        known = [value for value in values if value is not None]
        return min(known) if known and len(known) == len(values) else None

    def exceptions(self, job_id: str, *, limit: int = 10) -> list[str]:
        """Return the job's failures, newest first, each as its root cause in one line."""
        answer = self._get(f"/jobs/{job_id}/exceptions", params={"maxExceptions": limit}, missing={})
        entries = answer.get("exceptionHistory", {}).get("entries", [])
        return [root_cause(entry.get("stacktrace") or entry.get("exceptionName") or "") for entry in entries]

    def root_exception(self, job_id: str) -> str | None:
        """Return the newest failure in one line, None where there was none."""
        return next(iter(self.exceptions(job_id, limit=1)), None)

    def _get(self, path: str, *, params: Mapping[str, Any] | None = None, missing: Any = None) -> Any:
        return self._http.request("GET", path, params=params, missing=missing)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._http.request("POST", path, json=body)


def _reason(text: str) -> str:
    try:
        return root_cause("\n".join(json.loads(text)["errors"]))
    except (ValueError, KeyError, TypeError):
        return text[:200]


def _job(item: Mapping[str, Any]) -> Job:
    tasks = item.get("tasks", {})
    ended = item.get("end-time", -1)
    return Job(
        id=item["jid"],
        name=item["name"],
        state=item["state"],
        started=item.get("start-time", 0),
        ended=None if ended < 0 else ended,
        running_tasks=tasks.get("running", 0),
        total_tasks=tasks.get("total", 0),
    )


def _did_nothing(stats: Mapping[str, Any], job_id: str) -> bool:
    """Return whether it is certain that a job completed no checkpoint; a restarted JobManager counts from 0 again."""
    counts, restored = stats.get("counts", {}), (stats.get("latest") or {}).get("restored") or {}
    if counts.get("completed", 0):
        return False
    path = str(restored.get("external_path") or "<")
    return not counts.get("restored", 0) or not (path.startswith("<") or f"/{job_id}/" in path)


def _newest(stats: Mapping[str, Any]) -> tuple[int, str] | None:
    latest = stats.get("latest") or {}
    listed = [latest.get(kind) or {} for kind in ("completed", "savepoint", "restored")]
    usable = [item for item in listed if str(item.get("external_path") or "<")[:1] != "<" and not item.get("discarded")]
    return max(((int(item["id"]), str(item["external_path"])) for item in usable), default=None)


def _cause(operation: Mapping[str, Any]) -> str:
    result = operation.get("operation") or {}
    failure = result.get("failure-cause") or result.get("failureCause") or {}
    return root_cause(failure.get("stack-trace") or failure.get("class") or "no reason given")


def root_cause(trace: str) -> str:
    """Return the last cause of a Java stack trace, in one line."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    text = causes[-1] if causes else next(iter(lines), "no reason given")
    return text if len(text) <= 400 else text[:397] + "..."


def local(uri: str) -> Path | None:
    """Return the path of a file: URI, None for any other."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def newest_state(job_id: str, checkpoints: Path | None, savepoints: Path | None) -> str | None:
    """Return the URI of a job's newest complete checkpoint or savepoint on disk; a complete one has `_metadata`."""
    found: list[Path] = []
    if checkpoints is not None:
        found += checkpoints.glob(f"{job_id}/chk-*/_metadata")
    if savepoints is not None:
        found += savepoints.glob(f"savepoint-{job_id[:6]}-*/_metadata")
    newest = max(_dated(found), default=None)
    return None if newest is None else newest[1].parent.as_uri()


def _dated(files: Iterable[Path]) -> Iterable[tuple[int, Path]]:
    for file in files:
        try:
            yield file.stat().st_mtime_ns, file
        except FileNotFoundError:  # subsumed while we looked
            continue
