"""The steps of one pipeline's job.  A job is never started twice, and its state never lost without a word."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from penstock.flink.spec import EARLIEST, GROUP, job_spec, version
from penstock.observe import Observed
from penstock.older_state import newer, ranges
from penstock.pipeline import Pipeline
from penstock.replay.record import Replay
from penstock.resume import resumption
from penstock.services.flink import Job, RestorePoint
from penstock.services.registry import Record
from penstock.settings import Environment
from penstock.steps import AdoptJob, Keep, Refused, StartJob, Step, StopJob

FLAG, OLDER = "stateless-restart", "older-state"


def settings_digest(pipeline: Pipeline, env: Environment) -> str:
    """Return 12 hex digits that change with anything of the submitted job: addresses, parallelism, intervals, SQL."""
    spec = asdict(job_spec(pipeline, env, restore="-"))
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class _Case:
    """What decides: the pipeline, what the registry says, what runs, and where an ended job can be resumed.

    `receipts` are its replays, `checkpoints` the numbers of its states.
    """

    name: str
    want: str
    settings: str
    record: Record | None
    live: list[Job]
    point: RestorePoint
    known: bool
    allowed: bool
    older_allowed: bool
    receipts: tuple[Replay, ...]
    checkpoints: Mapping[str, int]

    @property
    def run(self) -> int:
        """The number of the next start: that of a start which Flink has never seen, else one more."""
        if self.record is None or self.record.status == "new":
            return 0
        return self.record.run if self.begun else self.record.run + 1

    @property
    def begun(self) -> bool:
        """True where a start was noted and, for all one can see, never came to be."""
        starting = self.record is not None and self.record.status == "starting"
        return starting and not self.live and not self.known and self.point.path is None

    @property
    def about(self) -> dict[str, Any]:
        return {"kind": "job", "pipeline": self.name, "subject": f"penstock.{self.name}"}


def job_steps(
    pipeline: Pipeline,
    observed: Observed,
    env: Environment,
    allow: Collection[str],
    *,
    recreated: Collection[str] = (),
    resume: bool = False,
) -> list[Step]:
    """Return the steps that make the job run as declared.

    `recreated` are the roles of its topics that start over; `resume` is whether a stopped job is to go on.
    """
    record = observed.records.get(pipeline.name)
    case = _Case(
        name=pipeline.name,
        want=version(pipeline),
        settings=settings_digest(pipeline, env),
        record=record,
        live=observed.live(pipeline.name),
        point=observed.restore_points.get(pipeline.name, RestorePoint()),
        known=record is not None and any(job.id == record.job_id for job in observed.jobs.get(pipeline.name, ())),
        allowed=FLAG in allow or f"{FLAG}:{pipeline.name}" in allow,
        older_allowed=OLDER in allow or f"{OLDER}:{pipeline.name}" in allow,
        receipts=observed.receipts.get(pipeline.name, ()),
        checkpoints=observed.checkpoints,
    )
    unclear = _unclear(case, first_id=job_spec(pipeline, env).job_id)
    if unclear is not None:
        return [unclear]
    if case.record is None:
        return _unrecorded(case, has_supervisor=pipeline.name in observed.supervisors)
    if recreated and case.record.status not in ("new", "removed"):
        startup = EARLIEST if "source" in recreated else GROUP
        return _afresh(case, case.record.startup if case.begun and case.record.restore is None else startup)
    if case.live:
        return _live(case, case.record, resume)
    return _ended(case, case.record, resume)


def _unclear(case: _Case, first_id: str) -> Step | None:
    """Return the refusal of a state in which no start or stop would be safe."""
    if len(case.live) > 1:
        ids = ", ".join(job.id for job in case.live)
        reason = f"{len(case.live)} jobs of this name run ({ids}): cancel all but one in Flink"
        return Refused(**case.about, reason=reason)
    if case.record is not None and case.record.status == "removing":
        return Refused(**case.about, reason=f"a remove was begun: `penstock remove {case.name}` completes it")
    if not case.live:
        return None
    job = case.live[0]
    if job.leaving:
        return Refused(**case.about, reason=f"job {job.id} is {job.state}: plan again when it has ended")
    if job.id != (case.record.job_id if case.record is not None and case.record.job_id else first_id):
        reason = f"job {job.id} of this name was not started from this registry: cancel it in Flink"
        return Refused(**case.about, reason=reason)
    return None


def _unrecorded(case: _Case, *, has_supervisor: bool) -> list[Step]:
    if case.live:
        return [_adopt(case)]
    if has_supervisor:
        # Starting from the earliest offset would repeat every row of an earlier life that the registry has lost.
        return _stateless(case, "Druid has its supervisor, the registry no record: an earlier run's state is unknown")
    return [_first(case)]


def _first(case: _Case) -> Step:
    reason = f"version {case.want}, for the first time, from the earliest offset"
    return StartJob(**case.about, version=case.want, run=case.run, startup=EARLIEST, reason=reason)


def _adopt(case: _Case) -> Step:
    return AdoptJob(**case.about, job_id=case.live[0].id, reason="runs, not yet noted as running")


def _afresh(case: _Case, startup: str) -> list[Step]:
    reason = "its topic starts over: its state no longer fits"
    at = "the earliest offset" if startup == EARLIEST else "its group's offsets"
    return [
        StopJob(
            **case.about, version=case.want, run=case.run, resume=False, startup=startup, recreates=True, reason=reason
        ),
        StartJob(**case.about, action="change", version=case.want, run=case.run, startup=startup, reason=f"from {at}"),
    ]


def _live(case: _Case, record: Record, resume: bool) -> list[Step]:
    if record.status == "stopping" and not resume:
        reason = (
            f"a stop was begun: `penstock stop {case.name}` completes it, `penstock start {case.name}` takes it back"
        )
        return [Keep(**case.about, notable=True, reason=reason)]
    if record.version and record.version != case.want:
        way = f"`penstock upgrade {case.name}` brings it into place"
        return _stateless(case, f"version {record.version} runs, {case.want} is declared: {way}")
    if record.settings and record.settings != case.settings:
        reason = "its settings changed (parallelism, intervals, addresses): goes on from a savepoint"
        return [
            StopJob(**case.about, version=case.want, run=case.run, resume=True, startup=record.startup, reason=reason),
            StartJob(
                **case.about,
                action="change",
                version=case.want,
                run=case.run,
                after_stop=True,
                reason="from that savepoint",
            ),
        ]
    if record.status != "running":
        return [_adopt(case)]
    return [Keep(**case.about, reason=f"version {case.want} runs")]


def _ended(case: _Case, record: Record, resume: bool) -> list[Step]:
    """Return the steps for a job that does not run, by what the registry last said of it."""
    if record.status == "new":
        return [_first(case)]
    if record.status in ("stopped", "stopping") and not resume and record.version == case.want:
        reason = f"stopped; `penstock start {case.name}` resumes it"
        return [Keep(**case.about, notable=True, reason=reason)]
    found = resumption(record, case.point)
    if found is None:
        return _stateless(case, "it has ended, and neither a savepoint nor a checkpoint of it is found")
    if found.path is None:
        return [_repeated(case, record, found.why)]
    return _resumed(case, record, found.path, found.why)


def _resumed(case: _Case, record: Record, path: str, before: str) -> list[Step]:
    if record.version != case.want:
        return _stateless(case, f"version {record.version} left its state, {case.want} is declared: it can't be used")
    state = path.rstrip("/").rpartition("/")[2]
    reason = f"{before}: resumes from {state}"
    replayed = newer(path, record, case.receipts, case.checkpoints)
    if replayed and not case.older_allowed:
        why = f"{before}: {state} is older than replay {ranges(replayed)}, whose windows it would fire again"
        return [Refused(**case.about, flag=OLDER, reason=f"{why}: put the newer state back")]
    if replayed:
        again = f"`penstock repair {case.name}` must replay again what replay {ranges(replayed)} did"
        reason += f" (--allow {OLDER}): {again}"
    return [StartJob(**case.about, action="change", version=case.want, run=case.run, restore=path, reason=reason)]


def _repeated(case: _Case, record: Record, why: str) -> Step:
    at = "the earliest offset" if record.startup == EARLIEST else "its group's offsets"
    reason = f"version {case.want}, from {at}: {why}"
    return StartJob(**case.about, version=case.want, run=case.run, startup=record.startup, reason=reason)


def _stateless(case: _Case, why: str) -> list[Step]:
    if not case.allowed:
        return [Refused(**case.about, flag=FLAG, reason=why)]
    reason = f"{why} (--allow {FLAG})"
    start = StartJob(
        **case.about,
        action="change",
        version=case.want,
        run=case.run,
        startup=GROUP,
        reason=f"version {case.want}, from its group's offsets, without state",
    )
    if not case.live:
        return [start]
    return [StopJob(**case.about, version=case.want, run=case.run, resume=False, startup=GROUP, reason=reason), start]
