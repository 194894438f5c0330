"""Stop, start and remove one pipeline, by name.  Each can be repeated, and goes on where a run before it died."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from penstock import actions
from penstock.actions import Site
from penstock.apply import run_steps
from penstock.errors import DeclarationError, PenstockError, RefusedError
from penstock.generation import deployed
from penstock.lock import environment_lock
from penstock.observe import observe
from penstock.pipeline import Pipeline
from penstock.plan_job import job_steps
from penstock.replay.ends import forget, unfinished
from penstock.services.protocols import Services
from penstock.services.registry import Record
from penstock.settings import Settings
from penstock.steps import Refused
from penstock.wait import Progress, Silent


@dataclass(frozen=True)
class Outcome:
    """What a verb did: `changed` is False where it was so already; `lines` are for the reader."""

    pipeline: str
    changed: bool
    lines: tuple[str, ...]


def stop(
    name: str,
    services: Services,
    settings: Settings,
    *,
    cancel: bool = False,
    progress: Progress | None = None,
    timeout: float = 120,
) -> Outcome:
    """Stop the pipeline's job with a savepoint, from which `start` resumes; Druid goes on serving.

    With `cancel` no savepoint is taken, for a job that can take none: its last checkpoint is what `start` resumes from.
    Stopping a stopped job says so.  Raises DeclarationError for a name that was never applied.
    """
    with environment_lock(settings, f"stop {name}"):
        site = make_site((), services, settings, progress, timeout)
        record = _applied(site, name)
        if record.status in ("removing", "removed"):
            return Outcome(name, False, (f"{name} was removed: it has no job",))
        if record.status == "stopped" or not record.job_id:
            return Outcome(name, False, (f"{name} is stopped already", _resumes(name, record)))
        record = site.save(record.but(status="stopping"))
        point = actions.end_job(site, record, cancel=cancel)
        if point.path is None and not point.never:
            site.save(record.but(status="running"))  # that it is lost is for `apply` to say and to settle
            raise PenstockError(
                f"{name}: its job {record.job_id} has ended, and neither a savepoint nor a checkpoint of it is found",
                hint=f"`penstock apply --allow stateless-restart:{name}` starts it without its state",
            )
        record = site.save(actions.ended(record, point).but(status="stopped"))
        return Outcome(name, True, (f"{name} is stopped", _resumes(name, record)))


def _resumes(name: str, record: Record) -> str:
    state = record.savepoint or record.restore or f"the {record.startup.replace('-', ' ')}"
    return f"`penstock start {name}` resumes from {state}"


def start(
    name: str,
    pipelines: Sequence[Pipeline],
    services: Services,
    settings: Settings,
    *,
    allow: Collection[str] = frozenset(),
    progress: Progress | None = None,
    timeout: float = 120,
) -> Outcome:
    """Resume a stopped job from its savepoint, as the version that was stopped.

    Starting a running job says so.  Raises RefusedError where the declaration has changed since (`--allow
    stateless-restart` as for `apply`), DeclarationError for a name that is not declared or was never applied.
    """
    declared = [pipeline for pipeline in pipelines if pipeline.name == name]
    if not declared:
        known = ", ".join(pipeline.name for pipeline in pipelines) or "none"
        raise DeclarationError(f"{name} is not declared in {settings.jobs}; declared: {known}")
    with environment_lock(settings, f"start {name}"):
        observed = observe(declared, services, settings)
        site = make_site(declared, services, settings, progress, timeout)
        record = _applied(site, name)
        if record.status in ("new", "removed") or name not in observed.supervisors:
            raise PenstockError(f"{name} is not applied in {settings.env.name}", hint="`penstock apply` makes it all")
        steps = job_steps(site.pipelines[name], observed, settings.env, allow, resume=True)
        for step in steps:
            if isinstance(step, Refused):
                flag = f"`--allow {step.flag}` does it all the same" if step.flag else None
                raise RefusedError(f"{name}: {step.reason}", hint=flag)
        changes = [step for step in steps if step.action != "none"]
        if not changes:
            return Outcome(name, False, (f"{name} runs already: {steps[0].reason}",))
        run_steps(site, changes)
        return Outcome(name, True, (f"{name} runs", *(step.reason for step in changes)))


def remove(
    name: str,
    services: Services,
    settings: Settings,
    *,
    delete_topics: bool = False,
    drop_datasource: bool = False,
    progress: Progress | None = None,
    timeout: float = 120,
) -> Outcome:
    """Take a pipeline away, declared or not: its job stopped with a savepoint, its supervisor terminated.

    Its data is kept: the topics out, late and dlq unless `delete_topics`, the rows in Druid unless `drop_datasource`;
    the source topic always, since others may read it.  With both, nothing is left: a later apply starts from scratch.
    With the rows its replays go: unfinished ones are given up, receipts heal nothing any more.  Raises BusyError while
    one of them is being run.
    """
    with environment_lock(settings, f"remove {name}"):
        site = make_site((), services, settings, progress, timeout)
        if name not in site.records:
            return Outcome(
                name, False, (f"{name} was never applied in {settings.env.name}: there is nothing to remove",)
            )
        record = site.records[name]
        if record.status == "removed" and not (delete_topics or drop_datasource):
            return Outcome(name, False, (f"{name} was removed already",))
        # Before the rows: where this dies in between, late events are repaired once more, and none is forgotten.
        ended = forget(name, services, settings, timeout=timeout) if drop_datasource else _unfinished(name, services)
        done = actions.remove_pipeline(site, name, delete_topics=delete_topics, drop_datasource=drop_datasource)
        return Outcome(name, True, (f"{name} is removed", *ended, *done))


def _unfinished(name: str, services: Services) -> list[str]:
    return [f"unfinished: `penstock replays --abandon {it.id}` gives it up" for it in unfinished(name, services)]


def make_site(
    pipelines: Sequence[Pipeline], services: Services, settings: Settings, progress: Progress | None, timeout: float
) -> Site:
    """Return where the actions act, with the registry's records as they are now."""
    records = services.registry.read()
    declared = {pipeline.name: deployed(pipeline, records.get(pipeline.name)) for pipeline in pipelines}
    return Site(services, settings, declared, records, progress or Silent(), timeout)


def _applied(site: Site, name: str) -> Record:
    if name not in site.records:
        known = ", ".join(sorted(site.records)) or "nothing"
        raise DeclarationError(
            f"{name} was never applied in {site.settings.env.name}; applied: {known}",
            hint="`penstock apply` applies what is declared",
        )
    return site.records[name]


def runs_in_use(services: Services) -> set[str]:
    """Return the runs (the first 8 digits of job ids) whose transactions a job will end: live, or to be resumed."""
    recorded = {record.job_id for record in services.registry.read().values() if record.job_id}
    live = {job.id for job in services.flink.jobs() if job.live or job.leaving}
    return {job_id[:8] for job_id in recorded | live}
