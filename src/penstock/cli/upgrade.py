"""The verb upgrade: bring a changed declaration into place."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.context import Context, console, print_json
from penstock.cli.stack import Json, Name
from penstock.errors import DeclarationError
from penstock.wait import rich_progress

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline
    from penstock.replay.record import Replay
    from penstock.upgrade import Request


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(rich_help_panel="Pipelines")(upgrade)


Since = Annotated[
    str | None,
    typer.Option("--replay-from", help="UTC: compute all figures from there on anew.", metavar="T"),
]


def upgrade(
    context: typer.Context,
    name: Name,
    since: Since = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compute and verify the past, show the difference, change nothing.")
    ] = False,
    rate: Annotated[float | None, typer.Option(help="The most records of the past to read a second.", min=1)] = None,
    reason: Annotated[str, typer.Option(help="Why, for the receipt.")] = "",
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would be done, and do nothing.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for each wait to see something change.", min=1)] = 300.0,
    as_json: Json = False,
) -> None:
    """Bring a changed declaration into place: from a savepoint, or, with --replay-from, with its past computed anew.

    An upgrade that died goes on when it is asked for again.
    """
    from penstock.upgrade import Request, under_way

    owner: Context = context.obj
    (declared,) = owner.pipelines([name])
    unfinished = under_way(name, owner.services)
    if unfinished is None and since is None:
        if dry_run or plan_only or as_json:
            raise DeclarationError("--dry-run, --plan and --json are for an upgrade with --replay-from T")
        _in_place(owner, declared, timeout)
        return
    request = Request(_moment(since), dry_run, rate, reason) if unfinished is None else None
    run_upgrade(owner, declared, request, unfinished, plan_only=plan_only, timeout=timeout, as_json=as_json)


def _moment(since: str | None) -> int:
    from penstock.segments import moment

    assert since is not None
    return moment("--replay-from", since)


def _in_place(owner: Context, declared: Pipeline, timeout: float) -> None:
    from penstock.in_place import upgrade as run

    with rich_progress(f"upgrade {declared.name}") as progress:
        outcome = run(declared, owner.services, owner.settings, progress=progress, timeout=timeout)
    sys.stdout.write("".join(f"{line}\n" for line in outcome.lines))


def run_upgrade(
    owner: Context,
    declared: Pipeline,
    request: Request | None,
    unfinished: Replay | None,
    *,
    plan_only: bool = False,
    timeout: float = 300,
    as_json: bool = False,
) -> None:
    """Plan and run an upgrade with a replay, or go on with an unfinished one, and show its receipt."""
    from penstock.replay import render
    from penstock.replay.record import to_json
    from penstock.replay.run import run
    from penstock.upgrade import prepare, refuse, runs

    if unfinished is None:
        assert request is not None
        if not request.dry_run and runs(declared, owner.services):
            sys.stdout.write(f"{declared.name}: nothing to do, the declared version runs\n")
            return
        made = prepare(declared, request, owner.services, owner.settings)
        if plan_only and as_json:
            print_json(render.plan_json(made))
        elif not as_json:
            console().print(render.plan_text(made))
        if plan_only:
            raise typer.Exit(3 if made.refused else 0)
        refuse(made)
        unfinished = made.replay
    with rich_progress(f"upgrade {declared.name}") as progress:
        done = run(declared, unfinished, owner.services, owner.settings, progress=progress, timeout=timeout)
    if as_json:
        print_json(to_json(done))
    else:
        console().print(render.receipt(done))
