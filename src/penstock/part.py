"""Apply a part of what is declared: one pipeline's topics, its supervisor, or its job.

The plan is that of the whole environment, and the steps run under its lock; only the others' are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal

from penstock import render
from penstock.apply import apply
from penstock.errors import DeclarationError
from penstock.lifecycle import Outcome, start
from penstock.lock import environment_lock
from penstock.observe import observe
from penstock.pipeline import Pipeline
from penstock.plan import plan
from penstock.services.druid import Supervisor
from penstock.services.protocols import Services
from penstock.settings import Settings
from penstock.steps import SHARED, Plan, Step
from penstock.topics import registry_topic, topic_specs
from penstock.wait import Progress

Kind = Literal["topic", "supervisor", "job"]


def of(name: str, kind: Kind, pipelines: Sequence[Pipeline], settings: Settings) -> Callable[[Step], bool]:
    """Return what tells the steps of one kind for one pipeline; topics that it shares with others are its own too."""
    (pipeline,) = (pipeline for pipeline in pipelines if pipeline.name == name)
    topics = {spec.name for spec in topic_specs(pipeline, settings.env)} | {registry_topic(settings.env).name}

    def ours(step: Step) -> bool:
        shared = step.pipeline == SHARED and step.subject in topics
        return step.kind == kind and (step.pipeline == name or shared)

    return ours


def apply_part(
    name: str,
    kind: Kind,
    pipelines: Sequence[Pipeline],
    services: Services,
    settings: Settings,
    *,
    allow: Collection[str] = frozenset(),
    progress: Progress | None = None,
    timeout: float = 120,
) -> Outcome:
    """Make that part of a declared pipeline what is declared; where it is so already, say so and change nothing.

    A job that was stopped by `penstock stop` goes on: it is asked for by name.  Raises what `apply` does.
    """
    if kind == "job":
        record = services.registry.read().get(name)
        if record is not None and record.status in ("stopping", "stopped"):
            return start(name, pipelines, services, settings, allow=allow, progress=progress, timeout=timeout)
    only = of(name, kind, pipelines, settings)
    done = apply(pipelines, services, settings, allow=allow, only=only, progress=progress, timeout=timeout)
    return Outcome(name, bool(done.changes), tuple(_lines(done)))


def diff_part(name: str, kind: Kind, pipelines: Sequence[Pipeline], services: Services, settings: Settings) -> Plan:
    """Return what `apply_part` would do.  Changes nothing."""
    ours = of(name, kind, pipelines, settings)
    made = plan(pipelines, observe(pipelines, services, settings), settings.env)
    return Plan(made.env, made.allow, made.fingerprint, tuple(step for step in made.steps if ours(step)))


def _lines(made: Plan) -> list[str]:
    return [*(render.line(step) for step in made.changes), f"{made.env}: {render.summary(made, done=True)}"]


def suspend(
    name: str, services: Services, settings: Settings, *, progress: Progress | None = None, timeout: float = 120
) -> Outcome:
    """Suspend the pipeline's supervisor, its rows published; `penstock apply` and `resume` let it go on."""
    with environment_lock(settings, f"suspend {name}"):
        if _supervised(name, services).suspended:
            return Outcome(name, False, (f"{name}: its supervisor is suspended already",))
        services.druid.suspend(name, timeout=timeout, progress=progress)
        return Outcome(name, True, (f"{name}: its supervisor is suspended, its rows published",))


def resume(name: str, services: Services, settings: Settings) -> Outcome:
    """Let a suspended supervisor go on."""
    with environment_lock(settings, f"resume {name}"):
        if not _supervised(name, services).suspended:
            return Outcome(name, False, (f"{name}: its supervisor is not suspended",))
        services.druid.resume(name)
        return Outcome(name, True, (f"{name}: its supervisor goes on",))


def _supervised(name: str, services: Services) -> Supervisor:
    found = services.druid.supervisors().get(name)
    if found is None:
        raise DeclarationError(f"Druid has no supervisor {name!r}", hint="`penstock apply` makes it")
    return found
