"""Run a repair: finish what an earlier one left, replay each span that is ready, say what is healed and what is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from penstock.errors import BusyError, NotEqualError, PenstockError, RefusedError
from penstock.pipeline import Pipeline
from penstock.reconcile import Ledger
from penstock.repair_policy import Due, RepairPolicy, Standing, due
from penstock.replay.acts import STEADY
from penstock.replay.facts import live
from penstock.replay.record import Replay
from penstock.replay.repair import EVERYTHING, Range, Repair, Span, look, wrong_segments
from penstock.replay.run import asked, new_id, prepare, refuse, run
from penstock.replay.scope import segments, utc, widened
from penstock.replay.steps import closes
from penstock.services.protocols import Services
from penstock.settings import Settings
from penstock.wait import Progress

#: Takes the ledger of a range; None where it is not to be taken.
Prove = Callable[[Range], Ledger]

#: What may have become of a span.
HEALED, OPEN, REFUSED, UNEQUAL = "healed", "open", "refused", "not equal"


@dataclass(frozen=True)
class Outcome:
    """What became of a span: `state` is one of those above, `detail` says why, or when it closes."""

    start: int
    end: int
    why: str
    state: str
    detail: str = ""
    replay: str = ""


@dataclass(frozen=True)
class Report:
    """What a repair has done, and what there is to repair after it (`left`)."""

    pipeline: str
    left: Repair
    outcomes: tuple[Outcome, ...]
    receipts: tuple[Replay, ...]

    def of(self, state: str) -> list[Outcome]:
        return [it for it in self.outcomes if it.state == state]

    @property
    def complaint(self) -> PenstockError | None:
        """What a shell is to hear of: figures that are not equal, or spans that were refused; None where all is well.

        Spans that wait for their windows are no failure.
        """
        unequal, refused = len(self.of(UNEQUAL)), len(self.of(REFUSED))
        if unequal or self.left.elsewhere:
            count = f"{unequal} of {len(self.outcomes)} spans, {self.left.elsewhere} differences outside of segments"
            hint = f"`penstock verify {self.pipeline}` names each"
            return NotEqualError(f"{self.pipeline}: not equal after the repair: {count}", hint=hint)
        if refused:
            words = f"{self.pipeline}: {refused} of {len(self.outcomes)} spans were refused"
            return RefusedError(words, hint="; ".join(it.detail for it in self.of(REFUSED)))
        return None


def repair(
    pipeline: Pipeline,
    services: Services,
    settings: Settings,
    *,
    within: Range = EVERYTHING,
    prove: Prove | None = None,
    rate: float | None = None,
    progress: Progress | None = None,
    timeout: float = 300,
    steady: float = STEADY,
) -> Report:
    """Repair a pipeline and return what became of each span; one that is refused does not stop the next.

    With `prove` the segments that the ledger names are repaired, too, and looked at again afterwards.  What
    `penstock.replay.run` raises, but a refusal, ends it, and so does another process at work: run again, it goes on.
    """
    outcomes: list[Outcome] = []
    receipts: list[Replay] = []

    def attempt(span: Span, begun: Replay | None = None) -> None:
        why = span.why or "begun before"
        try:
            made = begun or _begin(pipeline, span, services, settings, rate)
            done = run(pipeline, made, services, settings, progress=progress, timeout=timeout, steady=steady)
        except BusyError:
            raise
        except RefusedError as error:
            outcomes.append(Outcome(span.start, span.end, why, REFUSED, " ".join(str(error).split())))
        else:
            receipts.append(done)
            outcomes.append(Outcome(span.start, span.end, why, HEALED, replay=done.id))

    for own in unfinished(pipeline, services):
        attempt(Span(own.asked.wide_start, own.asked.wide_end, 0, open=False), own)
    todo = look(pipeline, services, ledger=prove(within) if prove else None, within=within)
    for span in todo.ready:
        attempt(span)
    outcomes += waiting(pipeline, todo, services)
    after = _again(prove, receipts) if prove else None
    left = replace(look(pipeline, services, within=within), elsewhere=todo.elsewhere)
    held = sorted(_held(pipeline, outcomes, after), key=lambda it: it.start)
    return Report(pipeline.name, left, tuple(held), tuple(receipts))


def unfinished(pipeline: Pipeline, services: Services) -> list[Replay]:
    """Return the replays that a repair of the pipeline has begun and not finished: it died."""
    return [
        it
        for it in services.replays.read().values()
        if it.pipeline == pipeline.name and it.status == "running" and it.asked.repair
    ]


def _begin(pipeline: Pipeline, span: Span, services: Services, settings: Settings, rate: float | None) -> Replay:
    within = widened(pipeline, span.start, span.end)
    request = asked(within, dry_run=False, rate=rate, reason=f"repair: {span.why}")
    asking = replace(request, repair=True)
    made = prepare(pipeline, within, asking, services, settings, id=replay_id(pipeline.name))
    refuse(made)
    return made.replay


def replay_id(pipeline: str) -> str:
    """Return a new id, of 80 characters at most."""
    return f"repair-{new_id(pipeline)}"


def waiting(pipeline: Pipeline, todo: Repair, services: Services) -> list[Outcome]:
    """Return the spans that wait, and when they close."""
    found = []
    for span in todo.spans:
        closed_at = widened(pipeline, span.start, span.end).closed_at
        if not span.open or closed_at is None:
            continue
        watermark = live(pipeline, services.registry.read().get(pipeline.name), services).watermark
        at = "its job does not run" if watermark is None else f"the watermark is at {utc(watermark)}"
        found.append(Outcome(span.start, span.end, span.why, OPEN, f"{at}; {closes(pipeline, closed_at)}"))
    return found


def _again(prove: Prove, receipts: list[Replay]) -> Ledger | None:
    """Take the ledger of what was replayed."""
    if not receipts:
        return None
    return prove((min(it.asked.wide_start for it in receipts), max(it.asked.wide_end for it in receipts)))


def _held(pipeline: Pipeline, outcomes: list[Outcome], ledger: Ledger | None) -> Iterator[Outcome]:
    """Hold what was replayed against the ledger."""
    wrong = wrong_segments(ledger) if ledger else {}
    for it in outcomes:
        still = [wrong[at] for at in segments(pipeline, it.start, it.end) if at in wrong] if it.state == HEALED else []
        if still:
            words = ", ".join(sum(still[1:], still[0]).words())
            yield replace(it, state=UNEQUAL, detail=f"replayed, and yet: {words}; `penstock verify` names each")
        else:
            yield it


def standing(pipeline: Pipeline, services: Services) -> Standing | None:
    """Return what a policy looks at; None where the pipeline is not applied.  Changes nothing."""
    record = services.registry.read().get(pipeline.name)
    if record is None or record.status in ("new", "removing", "removed"):
        return None
    todo = look(pipeline, services)
    repairs = [
        it.asked.at
        for it in services.replays.read().values()
        if it.pipeline == pipeline.name and it.asked.repair and it.status in ("running", "done")
    ]
    return Standing(
        ready=todo.late - todo.healed - todo.waiting,
        waiting=todo.waiting,
        newest=todo.newest,
        repaired=max((round(datetime.fromisoformat(at).timestamp() * 1000) for at in repairs), default=None),
        unfinished=next((it.id for it in unfinished(pipeline, services)), None),
    )


@dataclass(frozen=True)
class Turn:
    """What became of a pipeline that was asked whether it is due: what its policy says, the repair, what failed."""

    due: Due | None = None
    report: Report | None = None
    error: PenstockError | None = None


def repair_due(
    pipeline: Pipeline,
    services: Services,
    settings: Settings,
    *,
    plan_only: bool = False,
    rate: float | None = None,
    progress: Progress | None = None,
    timeout: float = 300,
) -> Turn:
    """Repair a pipeline's late events where its own policy wants that now.

    Raises nothing: what fails is in the turn, so that one pipeline does not stop the next.
    """
    now: Due | None = None
    try:
        now = is_due(pipeline, services)
        if not now.now or plan_only:
            return Turn(now)
        report = repair(pipeline, services, settings, rate=rate, progress=progress, timeout=timeout)
        return Turn(now, report, report.complaint)
    except PenstockError as error:
        return Turn(now, error=error)


def is_due(pipeline: Pipeline, services: Services, now: int | None = None) -> Due:
    """Say whether the pipeline's own policy wants a repair now (epoch ms)."""
    assert isinstance(pipeline.repair, RepairPolicy)
    facts = standing(pipeline, services)
    if facts is None:
        return Due(False, "it is not applied")
    return due(pipeline.repair, round(time.time() * 1000) if now is None else now, facts)
