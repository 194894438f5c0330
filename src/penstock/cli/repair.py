"""The verb repair: of one pipeline, or of all whose policy says that it is due."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.context import Context, console, print_json
from penstock.cli.replay import Timeout
from penstock.cli.stack import Json
from penstock.errors import DeclarationError, PenstockError
from penstock.wait import Progress, rich_progress

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline
    from penstock.replay.mend import Prove, Report
    from penstock.replay.repair import Range

#: Seconds in which Druid or the job must move on while the ledger is taken.
LEDGER_TIMEOUT = 60.0


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(rich_help_panel="Data")(repair)


def repair(  # noqa: PLR0913  (a command's options)
    context: typer.Context,
    pipelines: Annotated[list[str] | None, typer.Argument(help="A pipeline; with --due any (default: all).")] = None,
    start: Annotated[str | None, typer.Option("--from", help="UTC, such as 2013-02-01 or 2013-02-01T06:00Z.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="UTC, exclusive; both are widened to whole segments.")] = None,
    late_only: Annotated[
        bool, typer.Option("--late-only", help="Late records only: don't verify the rest, which reads the whole log.")
    ] = False,
    due: Annotated[
        bool, typer.Option("--due", help="Late records of the pipelines whose policy says so; for a scheduler.")
    ] = False,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would be replayed, and do nothing.")] = False,
    rate: Annotated[float | None, typer.Option(help="The most records to read a second.", min=1)] = None,
    timeout: Timeout = 300.0,
    as_json: Json = False,
) -> None:
    """Count late records after all, and mend what verify names: replay just the segments that they belong to."""
    owner: Context = context.obj
    if not plan_only:
        owner.needs_files("repair")
    if due:
        if start is not None or end is not None:
            raise DeclarationError("--due looks at all that is late: --from and --to don't go with it")
        _due(owner, pipelines or [], plan_only, rate, timeout, as_json)
        return
    if not pipelines or len(pipelines) > 1:
        hint = "penstock repair airport_delays, or penstock repair --due"
        raise DeclarationError("one pipeline is repaired at a time; --due looks at several", hint=hint)
    (declared,) = owner.pipelines(pipelines)
    within = _range(declared, start, end)
    if plan_only:
        _plan(owner, declared, within, late_only, timeout, as_json)
        return
    report = _run(owner, declared, within, late_only, rate, timeout)
    if as_json:
        from penstock.replay.render_repair import report_json

        print_json(report_json(report))
    else:
        _show(report)
    if report.complaint is not None:
        raise report.complaint


def _range(pipeline: Pipeline, start: str | None, end: str | None) -> Range:
    from penstock.segments import moment, widen

    low = None if start is None else moment("--from", start)
    high = None if end is None else moment("--to", end)
    if low is not None and high is not None and low >= high:
        raise DeclarationError(f"--from {start} is not before --to {end}")
    return widen(low, high, pipeline.sink.segment)


def _ledger(owner: Context, pipeline: Pipeline, timeout: float, progress: Progress) -> Prove:
    """Return what takes the ledger of a range."""
    from penstock.proof import prove
    from penstock.reconcile import Ledger
    from penstock.replay.scope import utc

    def take(within: Range) -> Ledger:
        first, last = (None if at is None else utc(at) for at in within)
        wait = min(timeout, LEDGER_TIMEOUT)
        return prove(pipeline, owner.settings, start=first, end=last, timeout=wait, progress=progress)

    return take


def _plan(owner: Context, pipeline: Pipeline, within: Range, late_only: bool, timeout: float, as_json: bool) -> None:
    from penstock.replay.mend import unfinished
    from penstock.replay.render_repair import plan_json, plan_text
    from penstock.replay.repair import look

    with rich_progress(f"repair {pipeline.name}") as progress:
        ledger = None if late_only else _ledger(owner, pipeline, timeout, progress)(within)
        todo = look(pipeline, owner.services, ledger=ledger, within=within)
        own = unfinished(pipeline, owner.services)
    if as_json:
        print_json(plan_json(pipeline.name, todo, own))
    else:
        console().print(plan_text(pipeline.name, todo, own))


def _run(
    owner: Context, pipeline: Pipeline, within: Range, late_only: bool, rate: float | None, timeout: float
) -> Report:
    from penstock.replay.mend import repair

    with rich_progress(f"repair {pipeline.name}") as progress:
        prove = None if late_only else _ledger(owner, pipeline, timeout, progress)
        return repair(
            pipeline,
            owner.services,
            owner.settings,
            within=within,
            prove=prove,
            rate=rate,
            progress=progress,
            timeout=timeout,
        )


def _show(report: Report) -> None:
    from penstock.replay.render import receipt
    from penstock.replay.render_repair import report_text

    for done in report.receipts:
        console().print(receipt(done))
    console().print(report_text(report))


def _due(owner: Context, names: list[str], plan_only: bool, rate: float | None, timeout: float, as_json: bool) -> None:
    """Repair what is due; a failure of one does not stop the others, and all are told at the end."""
    from penstock.replay.mend import repair_due
    from penstock.replay.render_repair import due_json, due_text, report_json

    told: list[dict[str, Any]] = []
    failed: list[tuple[str, PenstockError]] = []
    for pipeline in owner.pipelines(names):
        policy = pipeline.repair
        entry: dict[str, Any] = {"pipeline": pipeline.name, "policy": str(policy)}
        with rich_progress(f"repair {pipeline.name}") as progress:
            more: dict[str, Any] = {"plan_only": plan_only, "rate": rate, "progress": progress, "timeout": timeout}
            turn = repair_due(pipeline, owner.services, owner.settings, **more)
        if turn.due is not None:
            entry |= due_json(pipeline.name, policy, turn.due)
            if not as_json:
                sys.stdout.write(due_text(pipeline.name, policy, turn.due) + "\n")
        if turn.report is not None:
            entry["repair"] = report_json(turn.report)
            if not as_json:
                _show(turn.report)
        if turn.error is not None:
            entry["error"] = str(turn.error)
            failed.append((pipeline.name, turn.error))
        told.append(entry)
    if as_json:
        print_json(told)
    if failed:
        lines = [f"{name}: {error.message.removeprefix(f'{name}: ')}" for name, error in failed]
        hints = dict.fromkeys(error.hint for _, error in failed if error.hint)
        raise _as(failed[0][1].exit_code, "\n".join(lines), "\n  ".join(hints))


def _as(exit_code: int, message: str, hint: str) -> PenstockError:
    """Return one error for several, with the first one's exit code."""
    error = PenstockError(message, hint=hint or None)
    error.exit_code = exit_code
    return error
