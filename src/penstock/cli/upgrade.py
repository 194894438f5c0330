"""The verb upgrade: bring a changed declaration into place."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.context import Context, console, print_json
from penstock.cli.stack import Allow, Json, Name
from penstock.errors import DeclarationError, RefusedError
from penstock.wait import rich_progress

if TYPE_CHECKING:
    from penstock.pipeline import Pipeline
    from penstock.upgrade import Request


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(rich_help_panel="Pipelines")(upgrade)


Since = Annotated[
    str | None,
    typer.Option("--replay-from", help="UTC: compute all figures from there on anew.", metavar="T"),
]


def upgrade(  # noqa: PLR0913  (a command's options)
    context: typer.Context,
    name: Name,
    since: Since = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Compute and verify the past, show the difference, change nothing.")
    ] = False,
    rate: Annotated[float | None, typer.Option(help="The most records of the past to read a second.", min=1)] = None,
    reason: Annotated[str, typer.Option(help="Why, for the receipt.")] = "",
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would be done, and do nothing.")] = False,
    allow: Allow = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each wait to see something change.", min=1)] = 300.0,
    as_json: Json = False,
) -> None:
    """Bring a changed declaration into place: from a savepoint, or, with --replay-from, with its past computed anew.

    An upgrade that died goes on when it is asked for again.
    """
    from penstock.plan import parse_allow
    from penstock.upgrade import FLAGS, Request, under_way

    owner: Context = context.obj
    (declared,) = owner.pipelines([name])
    if since is None and (dry_run or plan_only or (as_json and under_way(name, owner.services) is None)):
        raise DeclarationError("--dry-run, --plan and --json are for an upgrade with --replay-from T")
    request = None if since is None else Request(_moment(since), dry_run, rate, reason, parse_allow(allow or (), FLAGS))
    run_upgrade(owner, declared, request, plan_only=plan_only, timeout=timeout, as_json=as_json)


def _moment(since: str) -> int:
    from penstock.segments import moment

    return moment("--replay-from", since)


def run_upgrade(
    owner: Context,
    declared: Pipeline,
    request: Request | None,
    *,
    plan_only: bool = False,
    timeout: float = 300,
    as_json: bool = False,
) -> None:
    """Plan and run an upgrade, or go on with an unfinished one, and show what was done."""
    from penstock.lifecycle import Outcome
    from penstock.replay import render
    from penstock.replay.record import to_json
    from penstock.upgrade import begin, upgrade

    if not plan_only:
        owner.needs_files("upgrade")
    begun = begin(declared, request, owner.services, owner.settings)
    if plan_only and begun is not None and begun.plan is None:
        raise RefusedError(f"upgrade {begun.replay.id} is not finished", hint="without --plan it goes on")
    if begun is not None and begun.plan is not None:
        if plan_only and as_json:
            print_json(render.plan_json(begun.plan))
        elif not as_json:
            console().print(render.plan_text(begun.plan))
        if plan_only:
            raise typer.Exit(3 if begun.plan.refused else 0)
        begun.refuse()
    with rich_progress(f"upgrade {declared.name}") as progress:
        done = upgrade(declared, begun, owner.services, owner.settings, progress=progress, timeout=timeout)
    if isinstance(done, Outcome):
        sys.stdout.write("".join(f"{line}\n" for line in done.lines))
    elif as_json:
        print_json(to_json(done))
    else:
        console().print(render.receipt(done))
