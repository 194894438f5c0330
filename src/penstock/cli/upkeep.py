"""Verbs of upkeep: health, maintain, init."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.context import Context, print_json
from penstock.cli.stack import Json


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (health, maintain):
        app.command(rich_help_panel="Pipelines")(verb)
    app.command(rich_help_panel="Pipelines")(init)


def health(context: typer.Context, as_json: Json = False) -> None:
    """Tell what is unhealthy, since when, and the likely cause; nothing is changed.  Exit code 5 where anything is."""
    from penstock.health import check, to_json

    owner: Context = context.obj
    found = check(owner.pipelines(), owner.services, owner.settings)
    if as_json:
        print_json(to_json(found))
    else:
        sys.stdout.write("".join(f"{item}\n" for item in found) or "healthy\n")
    if found:
        raise typer.Exit(5)


def maintain(
    context: typer.Context,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what is due, and do nothing.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds for each wait.", min=1)] = 600.0,
    as_json: Json = False,
) -> None:
    """Compact what is closed, set retention rules, delete what nothing refers to; report dead letters and late rows."""
    from penstock.maintenance import maintain as run
    from penstock.maintenance import plan, report, to_json
    from penstock.wait import rich_progress

    owner: Context = context.obj
    owner.needs_files("maintain")
    pipelines = owner.pipelines()
    due = plan(pipelines, owner.services, owner.settings)
    accounts = report(pipelines, owner.services)
    if as_json:
        print_json(to_json(due, accounts))
    else:
        lines = [*map(str, due), *map(str, accounts)]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    if not due:
        sys.stderr.write("nothing is due\n")
    elif not plan_only:
        with rich_progress("maintain") as progress:
            done = run(due, owner.services, owner.settings, progress=progress, timeout=timeout)
        sys.stderr.write(f"{len(done)} done\n")


def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A new or empty directory.")],
) -> None:
    """Write a project of your own: penstock.toml, a job, the DAGs, a test.  Nothing that is there is overwritten."""
    from penstock.template import init as write

    del context
    for file in write(folder):
        sys.stdout.write(f"{file}\n")
    sys.stdout.write(f"\nnext: cd {folder}; penstock check; penstock up; penstock apply\n")
