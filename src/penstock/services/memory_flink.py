"""The in-memory twin of `Flink`, for tests: jobs that run, fail, end and are forgotten, and a cluster that is down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from penstock.errors import PenstockError, UnavailableError
from penstock.flink.spec import JobSpec
from penstock.services.flink import Job, RestorePoint
from penstock.settings import Settings
from penstock.wait import Progress

if TYPE_CHECKING:  # its module derives from this package
    from penstock.replay.derive import BatchSpec


class MemoryFlink:
    """`down = True` makes every call raise UnavailableError; `specs` are the submissions that Flink took, in order.

    `watermarks` by job name, `slots` that are free, `restores` and `deployments` of jobs, `completed` checkpoints and
    `checkpoint_times` by id, `plans` by version, and `savepoint`, called for each one with the job's name and the path,
    are the tests' to set.  `bounded` does a bounded job's work, at once; `begun` is called with a live one that starts.
    """

    def __init__(self) -> None:
        self.down = False
        self.specs: list[JobSpec] = []
        self.watermarks: dict[str, int | None] = {}
        self.slots = 8
        self.restores: dict[str, tuple[int, int]] = {}
        self.deployments: dict[str, int] = {}
        self.savepoint: Callable[[str, str], None] = lambda name, path: None
        self.bounded: Callable[[BatchSpec], None] = lambda spec: None
        self.begun: Callable[[JobSpec], None] = lambda spec: None
        self.checkpoints = 0
        self.completed: dict[str, int] = {}
        self.plans: dict[str, str] = {}
        self.checkpoint_times: dict[str, int] = {}
        self._jobs: dict[str, Job] = {}
        self._points: dict[str, RestorePoint] = {}
        self._failures: dict[str, str] = {}

    # What tests do to it.

    def end(self, name: str, state: str = "FAILED", *, point: RestorePoint, reason: str | None = None) -> str:
        """End the live job of this name, leaving `point`; return its id."""
        job = next(job for job in self._jobs.values() if job.name == name and job.live)
        self._jobs[job.id] = replace(job, state=state, ended=job.started + 1, running_tasks=0)
        self._points[job.id] = point
        if reason is not None:
            self._failures[job.id] = reason
        return job.id

    def set_state(self, name: str, state: str, *, reason: str | None = None) -> None:
        """Put the newest job of this name into a state."""
        job = next(job for job in self.jobs() if job.name == name)
        self._jobs[job.id] = replace(job, state=state, running_tasks=job.total_tasks if state == "RUNNING" else 0)
        if reason is not None:
            self._failures[job.id] = reason

    def forget(self, job_id: str, *, files: bool = True) -> None:
        """Forget an ended job, as Flink does in time; with `files=False` its state is gone too."""
        del self._jobs[job_id]
        known = self._points.get(job_id, RestorePoint())
        self._points[job_id] = RestorePoint(known.path if files else None)

    def forgotten(self, job_id: str) -> None:
        """Let nobody know what became of a job that Flink has forgotten: its files are out of sight."""
        self._points[job_id] = RestorePoint(unseen=True)

    def foreign(self, name: str, job_id: str) -> None:
        """Let somebody else start a job."""
        self._start(job_id, name)

    # What Flink does.

    def submit(self, settings: Settings, specs: Sequence[JobSpec], progress: Progress | None = None) -> None:
        self._reach()
        for spec in specs:
            if spec.job_id in self._jobs and self._jobs[spec.job_id].live:
                continue
            self.specs.append(spec)
            self._start(spec.job_id, spec.name)
            self.begun(spec)

    def jobs(self) -> list[Job]:
        self._reach()
        return sorted(self._jobs.values(), key=lambda job: job.started, reverse=True)

    def job(self, job_id: str) -> Job | None:
        self._reach()
        return self._jobs.get(job_id)

    def stop_with_savepoint(
        self, job_id: str, target_dir: str, *, timeout: float = 120, progress: Progress | None = None
    ) -> str:
        job = self.job(job_id)
        if job is not None and job.live:
            path = f"{target_dir}/savepoint-{job_id[:6]}-1"
            self.savepoint(job.name, path)
            self.end(job.name, "FINISHED", point=RestorePoint(path))
        left = self.restore_point(job_id, target_dir).path
        if left is None:
            raise PenstockError(f"job {job_id} left no savepoint in {target_dir}, nor a checkpoint")
        return left

    def cancel(self, job_id: str, *, timeout: float = 60) -> None:
        job = self.job(job_id)
        if job is not None and job.live:
            self.end(job.name, "CANCELED", point=RestorePoint(f"memory:/checkpoints/{job_id}/chk-7"))

    def restore_point(self, job_id: str, savepoints: str = "") -> RestorePoint:
        self._reach()
        return self._points.get(job_id, RestorePoint())

    def root_exception(self, job_id: str) -> str | None:
        self._reach()
        return self._failures.get(job_id)

    def submit_batch(self, settings: Settings, spec: BatchSpec, progress: Progress | None = None) -> None:
        self._reach()
        if spec.job_id in self._jobs:
            return
        self._start(spec.job_id, spec.name)
        self.bounded(spec)
        job = self._jobs[spec.job_id]
        if job.live:
            self._jobs[spec.job_id] = replace(job, state="FINISHED", ended=job.started + 1, running_tasks=0)

    def overview(self) -> Mapping[str, Any]:
        self._reach()
        return {"slots-available": self.slots}

    def watermark(self, job_id: str) -> int | None:
        job = self.job(job_id)
        if job is None:
            raise PenstockError(f"Flink knows no job {job_id}")
        return self.watermarks.get(job.name)

    def trigger_checkpoint(self, job_id: str, *, timeout: float = 60) -> int:
        self._reach()
        self.checkpoints += 1
        return self.checkpoints

    def latest_checkpoint(self, job_id: str) -> tuple[int, str] | None:
        self._reach()
        return self.checkpoints, f"memory:/checkpoints/{job_id}/chk-{self.checkpoints}"

    def checkpointed(self, job_id: str) -> int | None:
        self._reach()
        return self.checkpoint_times.get(job_id)

    def restored(self, job_id: str) -> tuple[int, int]:
        self._reach()
        return self.restores.get(job_id, (0, 0))

    def deployed(self, job_id: str) -> int:
        self._reach()
        return self.deployments.get(job_id, 0)

    def completed_checkpoints(self, job_id: str) -> int:
        self._reach()
        return self.completed.get(job_id, 1)

    def compiled(self, settings: Settings, specs: Sequence[JobSpec], progress: Progress | None = None) -> list[str]:
        """Return plans in which only the statements' shape shows, as `plans` has them by version."""
        return [self.plans.get(spec.version, '{"nodes": [], "edges": []}') for spec in specs]

    def records_read(self, job_id: str) -> int:
        self._reach()
        return 0

    def _start(self, job_id: str, name: str) -> None:
        self._jobs[job_id] = Job(job_id, name, "RUNNING", started=self._now(), running_tasks=4, total_tasks=4)

    def _now(self) -> int:
        return max((job.started for job in self._jobs.values()), default=0) + 1

    def _reach(self) -> None:
        if self.down:
            raise UnavailableError("Flink does not answer at memory")
