"""Verbs of pipelines: check, plan, apply, start, stop, remove."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.context import Context, console, print_json
from penstock.cli.stack import Allow, Name
from penstock.errors import DeclarationError
from penstock.wait import rich_progress

if TYPE_CHECKING:
    from penstock.lifecycle import Outcome
    from penstock.pipeline import Pipeline
    from penstock.steps import Plan

Timeout = Annotated[float, typer.Option(help="Seconds for each wait.", min=1)]


class Format(StrEnum):
    """How a plan is printed."""

    text = "text"
    json = "json"
    markdown = "markdown"


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (check, plan, apply, start, stop, remove):
        app.command(rich_help_panel="Pipelines")(verb)


def check(context: typer.Context) -> None:
    """Check every declaration, without any service: all mistakes at once."""
    from penstock.flink.spec import version

    owner: Context = context.obj
    pipelines = owner.pipelines()
    for pipeline in pipelines:
        kind = type(pipeline.transform).__name__
        sys.stdout.write(f"{pipeline.name}  {kind}  {pipeline.source.name}  version {version(pipeline)}\n")
    sys.stdout.write(f"{len(pipelines)} pipelines, no mistakes\n")


def plan(
    context: typer.Context,
    allow: Allow = None,
    output: Annotated[Format, typer.Option("--format", help="Markdown suits a pull request.")] = Format.text,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Show what `apply` would do, and why; nothing is changed.  Exit code 3 when a step is refused."""
    from penstock.observe import observe
    from penstock.plan import parse_allow
    from penstock.plan import plan as make_plan

    owner: Context = context.obj
    pipelines = owner.pipelines()
    observed = observe(pipelines, owner.services, owner.settings)
    made = make_plan(pipelines, observed, owner.settings.env, parse_allow(allow or ()))
    _print_plan(made, Format.json if as_json else output)
    if made.refused:
        raise typer.Exit(3)


def _print_plan(made: Plan, output: Format) -> None:

    from penstock import render
    from penstock.steps import plan_to_json

    match output:
        case Format.json:
            print_json(plan_to_json(made))
        case Format.markdown:
            sys.stdout.write(render.markdown(made))
        case Format.text:
            console().print(render.text(made))


def apply(
    context: typer.Context,
    plan_file: Annotated[Path | None, typer.Argument(help="A plan from `plan --json`: run this one or none.")] = None,
    allow: Allow = None,
    since: Annotated[
        str | None,
        typer.Option("--replay-from", help="UTC: give pipelines that are new their past from there.", metavar="T"),
    ] = None,
    timeout: Timeout = 120.0,
) -> None:
    """Make topics, supervisors and jobs what is declared.  A second `apply` changes nothing, and says so."""

    from penstock import render
    from penstock.apply import apply as run
    from penstock.plan import parse_allow

    owner: Context = context.obj
    if plan_file and allow:
        hint = "plan again with it: penstock plan --allow ... --json > plan.json"
        raise DeclarationError("--allow: a plan that was made already holds what it allows", hint=hint)
    expected = _read_plan(plan_file) if plan_file else None
    declared, first = _first_ones(owner, since)
    with rich_progress("apply") as progress:
        done = run(
            declared,
            owner.services,
            owner.settings,
            allow=parse_allow(allow or ()),
            expected=expected,
            progress=progress,
            timeout=timeout,
        )
    if done.changes:
        console().print(render.text(done))
    sys.stdout.write(f"{'applied: ' if done.changes else ''}{render.summary(done, done=True)}\n")
    _start_with_past(owner, first, since, max(timeout, 300))


def _first_ones(owner: Context, since: str | None) -> tuple[list[Pipeline], list[Pipeline]]:
    """Return the pipelines that are applied as usual, and those that begin beside a replay of their past."""
    declared = owner.pipelines()
    if since is None:
        return declared, []
    from penstock.segments import moment
    from penstock.upgrade import begins

    moment("--replay-from", since)
    first = begins(declared, owner.services)
    if not first:
        sys.stdout.write("--replay-from: every pipeline has been applied before; `penstock upgrade` is for those\n")
    return [pipeline for pipeline in declared if pipeline not in first], first


def _start_with_past(owner: Context, first: list[Pipeline], since: str | None, timeout: float) -> None:
    from penstock.cli.upgrade import run_upgrade
    from penstock.segments import moment
    from penstock.upgrade import Request

    for pipeline in first:
        assert since is not None
        request = Request(moment("--replay-from", since), reason="its first start")
        run_upgrade(owner, pipeline, request, timeout=timeout)


def _read_plan(file: Path) -> Plan:
    from penstock.steps import plan_from_json

    try:
        return plan_from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DeclarationError(f"{file}: {error}", hint="make one: penstock plan --json > plan.json") from None


def start(context: typer.Context, name: Name, allow: Allow = None, timeout: Timeout = 120.0) -> None:
    """Start a stopped pipeline's job from its savepoint."""
    from penstock.lifecycle import start as run
    from penstock.plan import parse_allow

    owner: Context = context.obj
    with rich_progress(f"start {name}") as progress:
        outcome = run(
            name,
            owner.pipelines(),
            owner.services,
            owner.settings,
            allow=parse_allow(allow or ()),
            progress=progress,
            timeout=timeout,
        )
    sys.stdout.write(_lines(outcome))


def stop(
    context: typer.Context,
    name: Name,
    cancel: Annotated[bool, typer.Option(help="Take no savepoint; start resumes from the last checkpoint.")] = False,
    timeout: Timeout = 120.0,
) -> None:
    """Stop a pipeline's job with a savepoint; Druid goes on serving."""
    from penstock.lifecycle import stop as run

    owner: Context = context.obj
    with rich_progress(f"stop {name}") as progress:
        outcome = run(name, owner.services, owner.settings, cancel=cancel, progress=progress, timeout=timeout)
    sys.stdout.write(_lines(outcome))


def _lines(outcome: Outcome) -> str:
    return "".join(f"{line}\n" for line in outcome.lines)


def remove(
    context: typer.Context,
    name: Name,
    delete_topics: Annotated[bool, typer.Option(help="Delete its out, late and dead-letter topics too.")] = False,
    drop_datasource: Annotated[bool, typer.Option(help="Drop its rows in Druid too.")] = False,
    timeout: Timeout = 120.0,
) -> None:
    """Take a pipeline away: job stopped, supervisor ended.  Data is kept unless named; the source topic always."""
    from penstock.lifecycle import remove as run

    owner: Context = context.obj
    with rich_progress(f"remove {name}") as progress:
        outcome = run(
            name,
            owner.services,
            owner.settings,
            delete_topics=delete_topics,
            drop_datasource=drop_datasource,
            progress=progress,
            timeout=timeout,
        )
    sys.stdout.write(_lines(outcome))
