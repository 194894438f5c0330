"""Upgrade in place: a changed job goes on from a savepoint of the old one, where no state of it has changed.

compare     the compiled plans, before anything is stopped: what can't take over the state is refused
stop        the old job, with a savepoint
start       the new one from it; until its first checkpoint it has committed nothing, so a failure goes back
"""

from __future__ import annotations

import time

from penstock import actions
from penstock.actions import Site
from penstock.apply import run_steps
from penstock.druid import supervisor_spec
from penstock.errors import DeclarationError, PenstockError, RefusedError, UnavailableError
from penstock.flink.spec import job_spec, version
from penstock.flink.state import differences
from penstock.generation import deployed, running
from penstock.lifecycle import Outcome, make_site
from penstock.lock import environment_lock
from penstock.observe import observe, savepoint_dir
from penstock.older_state import newer, numbers, ranges, receipts
from penstock.pipeline import Pipeline
from penstock.plan import STAMP, digest
from penstock.plan_job import job_steps
from penstock.resume import resumption
from penstock.services.flink import RestorePoint
from penstock.services.protocols import Services
from penstock.services.registry import Record
from penstock.settings import Settings
from penstock.steps import Refused, StartJob
from penstock.wait import Pending, Progress, until

#: Seconds that a new job must run without a restart: a checkpoint may come before the record that it fails at.
STEADY = 3.0


def upgrade(
    pipeline: Pipeline,
    services: Services,
    settings: Settings,
    *,
    progress: Progress | None = None,
    timeout: float = 120,
    steady: float = STEADY,
) -> Outcome:
    """Let the job go on as declared, from a savepoint; say so where it does already.

    Raises RefusedError, with nothing stopped, where its state does not fit; PenstockError where the new job did not
    come up: then the old one runs again, unless the new one had committed results already.
    """
    with environment_lock(settings, f"upgrade {pipeline.name}"):
        site = make_site((pipeline,), services, settings, progress, timeout)
        record, old, new = _versions(site, pipeline)
        if old is None:
            return _as_recorded(site, new, steady)
        _compare(site, old, new)
        savepoint = _stopped(site, record)
        stopped = site.save(record.but(savepoint=savepoint))
        try:
            _supervise(site, new)
            _start(site, new, savepoint, record.run + 1)
            _await_commit(site, pipeline.name, steady)
        except PenstockError as error:
            raise _rolled_back(site, old, stopped, savepoint, error) from error
        lines = (
            f"{pipeline.name}: version {version(new)} goes on where {record.version} stood, from {savepoint}",
            "windows that were open then, and all before, hold what the old version took in: "
            f"`penstock replay {pipeline.name} --from ... --to ...` computes them anew",
        )
        return Outcome(pipeline.name, True, lines)


def _versions(site: Site, pipeline: Pipeline) -> tuple[Record, Pipeline | None, Pipeline]:
    """Return the record, the version that it runs (None where that is the declared one), and the declared one."""
    record = site.records.get(pipeline.name)
    if record is None or not record.job_id or record.status in ("new", "removing", "removed"):
        raise DeclarationError(
            f"{pipeline.name} has no job in {site.settings.env.name} to upgrade", hint="`penstock apply` starts one"
        )
    new = deployed(pipeline, record)
    if record.version == version(new):
        return record, None, new
    old = running(record)
    if old is None or version(old) != record.version:
        raise RefusedError(
            f"{pipeline.name}: what version {record.version} was started from was not noted, so its state is not known",
            hint=f"`penstock upgrade {pipeline.name} --replay-from T` needs none",
        )
    return record, old, new


def _compare(site: Site, old: Pipeline, new: Pipeline) -> None:
    site.progress.update("comparing the compiled plans")
    env = site.settings.env
    plans = site.services.compiled(site.settings, [job_spec(old, env), job_spec(new, env)], site.progress)
    found = differences(*plans)
    if old.source.name != new.source.name:
        found.insert(0, f"it reads {new.source.name}, and did read {old.source.name}")
    if found:
        raise RefusedError(
            f"{new.name}: version {version(new)} can't go on with the state of {version(old)}; nothing was stopped\n"
            + "\n".join(found),
            hint=f"`penstock upgrade {new.name} --replay-from T` begins anew at the open windows and computes the past",
        )


def _as_recorded(site: Site, pipeline: Pipeline, steady: float) -> Outcome:
    """See that the recorded version runs, which an earlier run may have left halfway: by the plan of `apply`."""
    name, observed = pipeline.name, observe([pipeline], site.services, site.settings)
    steps = job_steps(pipeline, observed, site.settings.env, allow=())
    for step in steps:
        if isinstance(step, Refused):
            flag = f"`penstock apply --allow {step.flag}:{name}` does it all the same" if step.flag else None
            raise RefusedError(f"{name}: {step.reason}", hint=flag)
    posted = _supervise(site, pipeline)
    changes = [step for step in steps if step.action != "none"]
    if not changes:
        what = "the supervisor is as declared now" if posted else "nothing to do"
        return Outcome(name, posted, (f"{name}: {what}, {steps[0].reason}",))
    site.pipelines = {**site.pipelines, name: pipeline}
    run_steps(site, changes)
    _await_commit(site, name, steady)
    return Outcome(name, True, (f"{name}: version {version(pipeline)} runs", *(step.reason for step in changes)))


def _stopped(site: Site, record: Record) -> str:
    """Stop the old job, and return the state that it leaves; all that refuses this does so while it runs."""
    flink, folder = site.services.flink, savepoint_dir(site.settings.env, record.pipeline)
    job = flink.job(record.job_id)
    if job is None or not (job.live or job.leaving):
        left = _left(record, flink.restore_point(record.job_id, folder))
        _refuse_older(site, record, left)
        return left
    newest = flink.latest_checkpoint(record.job_id)
    if newest is not None:  # its savepoint is newer still
        _refuse_older(site, record, newest[1])
    site.progress.update("stopping the old job with a savepoint")
    return flink.stop_with_savepoint(record.job_id, folder, timeout=site.timeout, progress=site.progress)


def _left(record: Record, point: RestorePoint) -> str:
    """Return the state of an ended job.  Raises PenstockError where there is none to go on from."""
    found = resumption(record, point)
    if found is None:
        raise PenstockError(
            f"{record.pipeline}: its job has ended, and neither a savepoint nor a checkpoint of it is found",
            hint=f"`penstock upgrade {record.pipeline} --replay-from T` needs none",
        )
    if found.path is None:
        raise PenstockError(
            f"{record.pipeline}: its job ended before it had computed anything, so there is no state to go on from",
            hint="`penstock apply` starts the declared version",
        )
    return found.path


def _supervise(site: Site, pipeline: Pipeline) -> bool:
    """Let Druid read what the version writes, before it writes: a task keeps the columns that it began with.

    Return whether the supervisor was another.
    """
    changed = supervisor_changed(site, pipeline)
    if changed:
        site.pipelines = {**site.pipelines, pipeline.name: pipeline}
        actions.post_supervisor(site, pipeline.name)
        actions.await_supervisor(site, pipeline.name)
    return changed


def _refuse_older(site: Site, record: Record, savepoint: str) -> None:
    done = receipts(site.services.replays.read().values(), record)
    replayed = newer(savepoint, record, done, numbers([savepoint]))
    if replayed:
        raise RefusedError(
            f"{record.pipeline}: {savepoint} is older than replay {ranges(replayed)}, whose windows would fire again",
            hint=f"put the newer state back, or `penstock upgrade {record.pipeline} --replay-from T`, which needs none",
        )


def supervisor_changed(site: Site, pipeline: Pipeline) -> bool:
    there = site.services.druid.supervisors().get(pipeline.name)
    return there is None or there.context.get(STAMP) != digest(supervisor_spec(pipeline, site.settings.env))


def _start(site: Site, pipeline: Pipeline, savepoint: str, run: int) -> None:
    """Note the version and start it from the savepoint; the note comes first, so that any later run goes on with it."""
    site.pipelines = {**site.pipelines, pipeline.name: pipeline}
    name = pipeline.name
    made = StartJob(
        pipeline=name, subject=name, version=version(pipeline), run=run, restore=savepoint, reason="upgrade"
    )
    actions.start_jobs(site, [made])
    actions.await_job(site, name)


def _await_commit(site: Site, name: str, steady: float) -> None:
    """Wait until the new job has completed a checkpoint, its first results committed with it, and runs on."""
    record, flink = site.record(name), site.services.flink
    since, before = time.monotonic(), (0, 0)

    def probe() -> bool | Pending:
        nonlocal since, before
        job = flink.job(record.job_id)
        if job is None or not job.live:
            reason = flink.root_exception(record.job_id)
            raise PenstockError(f"{name}: its new job is {job.state if job else 'gone'}: {reason or 'no reason given'}")
        restored, now = flink.restored(record.job_id), time.monotonic()
        if restored != before or not job.running:
            since, before = now, restored
        if not job.running or not flink.completed_checkpoints(record.job_id):
            reason = flink.root_exception(record.job_id) or ""
            return Pending(f"{job.state}, no checkpoint of the new job yet; {reason}".rstrip("; "))
        return now - since >= steady or Pending(f"it runs, since its last restart for less than {steady:g} s")

    until(f"{name}: the new job", probe, timeout=site.timeout, interval=0.25, progress=site.progress)


def _rolled_back(site: Site, old: Pipeline, record: Record, savepoint: str, error: PenstockError) -> PenstockError:
    """Go back to the old version, if the new one has committed nothing; return the error that tells what was done."""
    flink, failed = site.services.flink, site.record(old.name)
    begun = failed.job_id != record.job_id
    if not begun and isinstance(error, UnavailableError):
        raise error  # Druid is away: the same command goes on when it is back
    if begun:
        flink.cancel(failed.job_id, timeout=site.timeout)
    if begun and _has_committed(site, failed, savepoint):
        return PenstockError(
            f"{error.message}\nit had committed results, so going back to {record.version} would repeat rows",
            hint="put the cause right, or take the change back, and "
            f"`penstock upgrade {old.name}` again: it goes on from the newest state; or --replay-from T",
        )
    _supervise(site, old)
    _start(site, old, savepoint, failed.run + 1)
    return PenstockError(
        f"{error.message}\nit had committed nothing: version {record.version} runs again, from the same savepoint",
        hint="put the cause right, then upgrade again",
    )


def _has_committed(site: Site, record: Record, savepoint: str) -> bool:
    """Return whether the ended job may have committed results: but for what it began from, a state of it is there.

    Flink's count of checkpoints begins at 0 again with its JobManager, and is gone with the job.
    """
    left = site.services.flink.restore_point(record.job_id, savepoint_dir(site.settings.env, record.pipeline))
    return left.unseen or left.path not in (None, savepoint)
