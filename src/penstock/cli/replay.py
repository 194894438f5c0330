"""Verbs of replays: replay, replays.  `penstock.cli.repair` has the third."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.context import Context, console, print_json
from penstock.cli.stack import Allow, Json
from penstock.errors import DeclarationError
from penstock.wait import rich_progress

if TYPE_CHECKING:
    from penstock.replay.record import Replay


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (replay, replays):
        app.command(rich_help_panel="Data")(verb)


Timeout = Annotated[float, typer.Option(help="Seconds for each wait to see something change.", min=1)]


def replay(  # noqa: PLR0913  (a command's options)
    context: typer.Context,
    pipeline: Annotated[str | None, typer.Argument(help="A pipeline's name; a known --id has its own.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="UTC, such as 2013-02-01 or 2013-02-01T06:00Z.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="UTC, exclusive; both are widened to whole segments.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compute and verify, publish nothing.")] = False,
    rate: Annotated[float | None, typer.Option(help="The most records to read a second.", min=1)] = None,
    reason: Annotated[str, typer.Option(help="Why, for the receipt.")] = "",
    name: Annotated[str | None, typer.Option("--id", help="Its id: once more, it goes on or changes nothing.")] = None,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would be done, and do nothing.")] = False,
    allow: Allow = None,
    timeout: Timeout = 300.0,
    as_json: Json = False,
) -> None:
    """Compute a past range anew from the log, late records included, and replace it in Druid in one stroke."""
    from penstock.plan import parse_allow
    from penstock.replay import render
    from penstock.replay.begin import Request, begin
    from penstock.replay.record import FLAGS
    from penstock.replay.run import run

    owner: Context = context.obj
    if not plan_only:
        owner.needs_files("replay")
    request = Request(pipeline, start, end, dry_run, rate, reason, name, parse_allow(allow or (), FLAGS))
    begun = begin(request, owner.pipelines, owner.services, owner.settings)
    if begun.plan is not None:
        if not as_json:
            console().print(render.plan_text(begun.plan))
        elif plan_only:
            print_json(render.plan_json(begun.plan))
        if plan_only:
            raise typer.Exit(3 if begun.plan.refused else 0)
        begun.refuse()
    with rich_progress(f"replay {begun.pipeline.name}") as progress:
        done = run(begun.pipeline, begun.replay, owner.services, owner.settings, progress=progress, timeout=timeout)
    _show(done, as_json, already=begun.ended)


def _show(done: Replay, as_json: bool, *, already: bool) -> None:
    from penstock.replay import render
    from penstock.replay.record import to_json

    if as_json:
        print_json(to_json(done))
        return
    if already:
        sys.stdout.write(f"nothing to do: {done.id} is {done.status} since {done.ended}\n")
    console().print(render.receipt(done))


def replays(
    context: typer.Context,
    pipelines: Annotated[list[str] | None, typer.Argument(help="Pipelines (default: all).")] = None,
    give_up: Annotated[str | None, typer.Option("--abandon", help="Give up an unfinished one.", metavar="ID")] = None,
    timeout: Timeout = 300.0,
    as_json: Json = False,
) -> None:
    """List the replays of this environment with what each changed; give up one that can't be finished."""
    from penstock.replay import render
    from penstock.replay.record import to_json
    from penstock.replay.run import abandon

    owner: Context = context.obj
    known = owner.services.replays.read()
    if give_up is not None:
        if give_up not in known:
            there = ", ".join(name for name, it in known.items() if it.status == "running") or "none"
            raise DeclarationError(f"there is no replay {give_up!r}; unfinished ones: {there}")
        owner.needs_files("replays --abandon")
        # It may be declared no more: what its record and the registry hold is enough then.
        declared = next((it for it in owner.pipelines() if it.name == known[give_up].pipeline), None)
        with rich_progress(f"abandon {give_up}") as progress:
            done = abandon(declared, known[give_up], owner.services, owner.settings, progress=progress, timeout=timeout)
        _show(done, as_json, already=known[give_up].status != "running")
        return
    listed = [it for it in known.values() if not pipelines or it.pipeline in pipelines]
    if as_json:
        print_json([to_json(it) for it in listed])
        return
    console().print(render.history(listed))
    sys.stderr.write(f"{len(listed)} replays\n")
