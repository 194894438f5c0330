"""Verbs of the native stack: up, down, status, logs, doctor."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.context import Context, console, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from penstock.settings import Settings
    from penstock.stack import Check, PartStatus

Name = Annotated[str, typer.Argument(help="A pipeline's name.")]
Allow = Annotated[
    list[str] | None, typer.Option("--allow", help="Allow what is refused, by its name; see the plan.", metavar="FLAG")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (up, down, status, logs, doctor):
        app.command(rich_help_panel="Stack")(verb)


def up(
    context: typer.Context,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave this out, this time: airflow.", metavar="GROUP")
    ] = None,
) -> None:
    """Start the native stack: Kafka, ZooKeeper, Druid, Flink and Airflow as processes of this machine."""

    from penstock import stack
    from penstock.wait import rich_progress

    settings = _native(context, "up")
    with rich_progress("up") as progress:
        parts = stack.up(settings, progress, without=without or ())
    console().print(status_table(parts))
    sys.stdout.write(airflow_line(settings))


def down(context: typer.Context) -> None:
    """Stop the native stack; data stays.  Flink's jobs go on from their last checkpoint at the next `up`."""
    from penstock import stack
    from penstock.wait import rich_progress

    settings = _native(context, "down")
    with rich_progress("down") as progress:
        stack.down(settings, progress)
    sys.stdout.write(f"stopped; data stays in {settings.stack.state}\n")


def status(
    context: typer.Context,
    pipeline: Annotated[str | None, typer.Argument(help="A pipeline: show its vital signs instead.")] = None,
    as_json: Json = False,
) -> None:
    """Show each part of the stack: state, health, address, memory.  Exit code 5 when one is not healthy.

    In another environment than native: whether each service answers.
    With a pipeline's name: watermarks, lag, records, checkpoints, backpressure, what Druid serves, the last DAG runs.
    """

    from penstock import stack

    if pipeline is not None:
        _vitals(context.obj, pipeline, as_json)
        return

    settings = _settings(context)
    if settings.env.name != "native":
        _reached(settings, as_json)
        return
    parts = stack.status(settings)
    if as_json:
        print_json([asdict(part) for part in parts])
    else:
        console().print(status_table(parts))
        sys.stdout.write(airflow_line(settings))
    if not all(part.healthy for part in parts):
        raise typer.Exit(5)


def _reached(settings: Settings, as_json: bool) -> None:
    from rich.table import Table

    from penstock.elsewhere import reached

    found = reached(settings)
    if as_json:
        print_json([asdict(item) for item in found])
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("service", "address", "state"):
            table.add_column(title)
        for item in found:
            table.add_row(item.name, item.address, item.state)
        console().print(table)
    if any(item.state != "answers" for item in found):
        raise typer.Exit(5)


def _vitals(owner: Context, name: str, as_json: bool) -> None:
    from penstock.services.airflow import Airflow
    from penstock.services.druid import Druid
    from penstock.services.flink import Flink
    from penstock.services.kafka import Kafka
    from penstock.stack import airflow
    from penstock.stack.parts import left_out
    from penstock.vitals.gather import Sources, gather
    from penstock.vitals.render import render, to_json

    env = owner.settings.env
    wanted = env.name == "native" and airflow.installed() and "airflow" not in left_out(owner.settings)
    access = airflow.access(owner.settings) if wanted else None
    runs = Airflow(access.url, access.user, access.password) if access else None
    sources = Sources(Kafka(env.kafka), Flink(env.flink), Druid(env.druid), owner.services.registry, runs)
    vitals = gather(owner.pipelines([name])[0], env, sources)
    if as_json:
        print_json(to_json(vitals))
    else:
        console().print(render(vitals))
    if vitals.problems:
        raise typer.Exit(5)


def logs(
    context: typer.Context,
    part: Annotated[str | None, typer.Argument(help="A part as `status` names it (default: all).")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written.")] = False,
) -> None:
    """Show what the parts have logged."""
    from penstock import stack

    for line in stack.logs(_native(context, "logs"), part, lines, follow):
        sys.stdout.write(line + "\n")


def doctor(
    context: typer.Context,
    abort: Annotated[
        list[str] | None, typer.Option(help="Abort this open transaction (its transactional id).", metavar="ID")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check Java, Maven, memory, ports, transaction settings; find transactions that a killed job left open."""

    from penstock import stack
    from penstock.lifecycle import runs_in_use

    settings = _settings(context)
    if abort:
        in_use = runs_in_use(context.obj.services)
        for transactional_id in stack.abort_transactions(settings.env.kafka, abort, in_use=in_use):
            sys.stdout.write(f"aborted {transactional_id}\n")
    checks = stack.doctor(settings)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        console().print(checks_table(checks))
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(1)


def _settings(context: typer.Context):  # type: ignore[no-untyped-def]
    owner: Context = context.obj
    return owner.settings


def _native(context: typer.Context, verb: str) -> Settings:
    from penstock.elsewhere import require_native

    settings: Settings = _settings(context)
    require_native(settings, verb)
    return settings


def status_table(parts: list[PartStatus]) -> Table:
    """Return the parts as a table, with their memory added up."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True)
    total = sum(part.rss or 0 for part in parts)
    for title, footer, justify in (
        ("part", "", "left"),
        ("state", "", "left"),
        ("health", "", "left"),
        ("uptime", "", "right"),
        ("memory", f"{total / 1e6:,.0f} MB", "right"),
        ("restarts", "", "right"),
        ("address", "", "left"),
    ):
        table.add_column(title, footer=footer, justify=justify)  # type: ignore[arg-type]
    for part in parts:
        memory = f"{part.rss / 1e6:,.0f} MB" if part.rss else ""
        uptime = f"{part.uptime:,.0f} s" if part.uptime else ""
        table.add_row(part.name, part.state, part.health, uptime, memory, str(part.restarts), part.url)
    return table


def airflow_line(settings: Settings) -> str:
    """Return how to log in to Airflow, or why it is not there."""
    from penstock.stack import airflow
    from penstock.stack.parts import left_out

    if not airflow.installed():
        return "without Airflow: it is not installed (extra `airflow`)\n"
    if "airflow" in left_out(settings):
        return "without Airflow: it was left out; `penstock up` starts it\n"
    access = airflow.access(settings)
    if access is None:
        return ""
    return f"Airflow: {access.url}  user {access.user}  password {access.password}  (kept in {access.file})\n"


def checks_table(checks: list[Check]) -> Table:
    """Return the answers of the doctor as a table."""
    from rich.table import Table

    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("check", "state", "found", "what to do"):
        table.add_column(title)
    for check in checks:
        table.add_row(check.name, f"[{colours[check.state]}]{check.state}[/]", check.detail, check.hint)
    return table
