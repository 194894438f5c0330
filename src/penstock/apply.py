"""5. Apply: run the very steps that `plan` prints, under a lock.  It decides nothing.

    lock, observe, plan      the same plan as the one that was shown, else nothing is done
    run                      each step in order; jobs are submitted together
    await                    supervisors healthy, jobs running
Whatever fails, a second `apply` does what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import assert_never

from penstock import actions
from penstock.actions import Site
from penstock.errors import PenstockError, RefusedError, UnavailableError
from penstock.generation import deployed
from penstock.lock import environment_lock
from penstock.observe import observe
from penstock.pipeline import Pipeline
from penstock.plan import plan
from penstock.services.protocols import Services
from penstock.settings import Settings
from penstock.steps import (
    AddPartitions,
    AdoptJob,
    AlterTopicConfig,
    ChangeKey,
    CreateSupervisor,
    CreateTopic,
    Keep,
    Plan,
    RecreateTopic,
    Refused,
    RemovePipeline,
    ResetSupervisor,
    ResumeSupervisor,
    StartJob,
    Step,
    StopJob,
    UpdateSupervisor,
    describe,
)
from penstock.wait import Progress, Silent

AGAIN = "put the cause right, then `penstock apply` again: it does what is missing"


@dataclass
class Run:
    """How far a run of steps has come."""

    done: list[Step] = field(default_factory=list)
    awaiting: list[str] = field(default_factory=list)


def apply(
    pipelines: Sequence[Pipeline],
    services: Services,
    settings: Settings,
    *,
    allow: Collection[str] = frozenset(),
    expected: Plan | None = None,
    only: Callable[[Step], bool] | None = None,
    progress: Progress | None = None,
    timeout: float = 120,
) -> Plan:
    """Make the environment what is declared, and return the plan that was carried out; no `changes`: it was so already.

    `expected` is a plan that was shown before: it is carried out only while it still is the plan, with its own `allow`.
    `only` picks the steps to carry out, and to refuse for; the plan that is returned holds just those.
    `timeout` is the seconds for each wait.  Raises RefusedError with nothing done where the lock is held, the plan is
    stale or a step is refused; UnavailableError or PenstockError saying what was done and what was not.
    """
    with environment_lock(settings, "apply"):
        observed = observe(pipelines, services, settings)
        todo = plan(pipelines, observed, settings.env, allow if expected is None else expected.allow)
        if expected is not None:
            _check_fresh(expected, todo)
        if only is not None:
            todo = replace(todo, steps=tuple(step for step in todo.steps if only(step)))
        _check_allowed(todo)
        site = Site(
            services,
            settings,
            {pipeline.name: deployed(pipeline, observed.records.get(pipeline.name)) for pipeline in pipelines},
            dict(observed.records),
            progress or Silent(),
            timeout,
        )
        run_steps(site, todo.changes)
    return todo


def run_steps(site: Site, steps: Sequence[Step]) -> None:
    """Run the steps, then wait until what they started is healthy.  A failure says what was done and what was not."""
    run = Run()
    try:
        for together, group in groupby(steps, key=lambda step: isinstance(step, StartJob)):
            batch = list(group)
            if together:
                starts = [step for step in batch if isinstance(step, StartJob)]
                site.progress.update(f"starting {len(starts)} job{'s' * (len(starts) != 1)}")
                actions.start_jobs(site, starts)
                run.done += batch
                continue
            for step in batch:
                site.progress.update(f"{len(run.done) + 1}/{len(steps)} {describe(step)}")
                run_step(site, step)
                run.done.append(step)
        for step in steps:
            if isinstance(step, (CreateSupervisor, UpdateSupervisor, ResumeSupervisor)):
                run.awaiting.append(f"supervisor {step.subject}")
                actions.await_supervisor(site, step.pipeline)
            elif isinstance(step, (StartJob, AdoptJob)):
                run.awaiting.append(f"job {step.subject}")
                actions.await_job(site, step.pipeline)
    except PenstockError as error:
        raise _interrupted(error, run, steps) from error


def run_step(site: Site, step: Step) -> None:
    """Carry out one step."""
    kafka, druid = site.services.kafka, site.services.druid
    match step:
        case CreateTopic():
            kafka.create_topic(step.topic)
        case AlterTopicConfig():
            kafka.alter_config(step.subject, step.after)
        case AddPartitions():
            kafka.add_partitions(step.subject, step.total)
        case RecreateTopic():
            actions.recreate_topic(site, step.topic)
        case ChangeKey():
            actions.note_key(site, step.subject, step.after)
        case CreateSupervisor() | UpdateSupervisor():
            actions.post_supervisor(site, step.pipeline)
        case ResetSupervisor():
            actions.reset_supervisor(site, step.pipeline)
        case ResumeSupervisor():
            druid.resume(step.pipeline)
        case StopJob():
            actions.stop_job(site, step)
        case StartJob():
            actions.start_jobs(site, [step])
        case AdoptJob():
            actions.adopt_job(site, step.pipeline, step.job_id)
        case RemovePipeline():
            actions.remove_pipeline(site, step.pipeline, drop_datasource=True)
        case Keep() | Refused():
            pass
        case _:
            assert_never(step)


def _check_fresh(expected: Plan, todo: Plan) -> None:
    if expected.env != todo.env:
        raise RefusedError(f"the plan is for {expected.env}, not for {todo.env}", hint=f"pass --env {expected.env}")
    if expected.fingerprint != todo.fingerprint:
        raise RefusedError(
            f"the plan is stale: it was made as {expected.fingerprint}, it would be {todo.fingerprint} now",
            hint="what is declared or what is there has changed since: make a new plan and read it",
        )


def _check_allowed(todo: Plan) -> None:
    if not todo.refused:
        return
    lines = [
        f"{step.kind} {step.subject}: {step.reason}" + (f" [--allow {step.flag}]" if step.flag else "")
        for step in todo.refused
    ]
    raise RefusedError(
        f"{len(lines)} step{'s are' if len(lines) > 1 else ' is'} refused; nothing was done\n" + "\n".join(lines),
        hint="go another way, or allow by name what is named in brackets",
    )


def _interrupted(error: PenstockError, run: Run, steps: Sequence[Step]) -> PenstockError:
    """Return the error with what was done and what was not, of the same kind (and exit code)."""
    left = [describe(step) for step in steps if step not in run.done]
    lines = [error.message, f"done: {', '.join(describe(step) for step in run.done) or 'nothing'}"]
    lines += [f"not done: {', '.join(left)}"] if left else [f"not seen healthy: {run.awaiting[-1]}"]
    hint = f"{error.hint}\n  {AGAIN}" if error.hint else AGAIN
    kind = next((kind for kind in (UnavailableError, RefusedError) if isinstance(error, kind)), PenstockError)
    return kind("\n".join(lines), hint=hint)
