"""The command line.  Thin: each verb loads what it needs, calls one function and prints what it returns."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import penstock.cli.data as data
import penstock.cli.dlq as dlq
import penstock.cli.pipelines as pipelines
import penstock.cli.repair as repair
import penstock.cli.replay as replay
import penstock.cli.stack as stack
import penstock.cli.upgrade as upgrade
import penstock.cli.upkeep as upkeep
from penstock.cli.context import Context, fail
from penstock.errors import PenstockError

app = typer.Typer(
    name="penstock",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Kappa pipelines whose numbers can be proved and repaired: Kafka, Flink and Druid from one declaration.",
    epilog=(
        "Exit codes: 0 done, 1 failed, 2 mistake in a declaration, settings or command line, "
        "3 refused because data would be lost or repeated, 4 figures are not equal, 5 a service is not available."
    ),
)


@app.callback()
def _options(
    context: typer.Context,
    project: Annotated[
        str | None, typer.Option(help="Folder with penstock.toml (default: here or above).", metavar="DIR")
    ] = None,
    env: Annotated[str | None, typer.Option(help="Environment of penstock.toml (default: native).")] = None,
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
) -> None:
    context.obj = Context(project, env, debug)


for group in (stack, pipelines, upgrade, upkeep, data, replay, repair, dlq):
    group.register(app)


def main() -> None:
    """Run the command line; every expected failure is one clear message and an exit code."""
    debug = "--debug" in sys.argv
    try:
        app()
    except PenstockError as error:
        if debug:
            raise
        fail(error)
    except KeyboardInterrupt:
        if debug:
            raise
        sys.stderr.write("\ninterrupted\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        hint = "`penstock --debug VERB ...` shows where it happened"
        fail(PenstockError(f"unexpected {type(error).__name__}: {error}", hint=hint))
