"""Begin a replay, or go on with one that is known: what is asked for in words becomes a plan.  Changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from penstock.errors import DeclarationError
from penstock.pipeline import Pipeline
from penstock.replay.record import Replay
from penstock.replay.run import asked, prepare, refuse
from penstock.replay.scope import scope, utc
from penstock.replay.steps import Plan
from penstock.segments import moment
from penstock.services.protocols import Services
from penstock.settings import Settings

EXAMPLE = "penstock replay carrier_daily --from 2013-02-01 --to 2013-03-01"


@dataclass(frozen=True)
class Request:
    """What a user asks for, in words: an `id` that is known needs nothing else; a new replay needs the first three."""

    pipeline: str | None = None
    start: str | None = None
    end: str | None = None
    dry_run: bool = False
    rate: float | None = None
    reason: str = ""
    id: str | None = None
    allow: Collection[str] = frozenset()


@dataclass(frozen=True)
class Begun:
    """A replay that can be run: a new one with its `plan`, a known one as it is recorded."""

    pipeline: Pipeline
    replay: Replay
    plan: Plan | None = None

    @property
    def ended(self) -> bool:
        """True where there is nothing to do any more."""
        return self.replay.status != "running"

    def refuse(self) -> None:
        """Raise RefusedError with everything that stands against it."""
        if self.plan is not None:
            refuse(self.plan)


def begin(
    request: Request,
    declared: Callable[[Sequence[str]], list[Pipeline]],
    services: Services,
    settings: Settings,
) -> Begun:
    """Return the known replay of that id, or the plan of a new one.  `declared` gives pipelines by name.

    Raises DeclarationError for what is missing, can't be read, or is not what the known replay was asked for.
    """
    known = services.replays.read().get(request.id) if request.id else None
    if known is not None:
        return Begun(_same(request, known, declared), known)
    if not (request.pipeline and request.start and request.end):
        only_id = request.id and not (request.pipeline or request.start or request.end)
        absent = f"there is no replay {request.id!r} to go on with" if only_id else None
        raise DeclarationError(absent or "a pipeline, --from and --to are needed", hint=EXAMPLE)
    (pipeline,) = declared([request.pipeline])
    wanted = scope(pipeline, request.start, request.end)
    what = asked(wanted, dry_run=request.dry_run, rate=request.rate, reason=request.reason, allow=request.allow)
    made = prepare(pipeline, wanted, what, services, settings, id=request.id)
    return Begun(pipeline, made.replay, made)


def _same(request: Request, known: Replay, declared: Callable[[Sequence[str]], list[Pipeline]]) -> Pipeline:
    """Return the pipeline of a known replay.  What is asked for must be what was asked for, where it is told."""
    (pipeline,) = declared([known.pipeline])
    told = (
        (request.pipeline, known.pipeline),
        (request.start and utc(moment("--from", request.start)), utc(known.asked.start)),
        (request.end and utc(moment("--to", request.end)), utc(known.asked.end)),
    )
    differs = any(given and given != there for given, there in told)
    # By its id alone one goes on as what it is.
    as_other = request.dry_run != known.asked.dry_run and (request.dry_run or any(given for given, _ in told))
    if differs or as_other:
        span = f"{known.pipeline}, {utc(known.asked.start)} to {utc(known.asked.end)}"
        kind = "dry run" if known.asked.dry_run else "replay"
        raise DeclarationError(f"{known.id} is another {kind}: {span}", hint="choose another --id, or leave it out")
    return pipeline
