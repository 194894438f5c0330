"""Verbs of dead letters: dlq list, dlq show, dlq redrive."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.context import Context, console, print_json
from penstock.cli.stack import Allow, Json
from penstock.errors import DeclarationError, PenstockError
from penstock.wait import rich_progress

if TYPE_CHECKING:
    from penstock.deadletters.markers import Markers
    from penstock.pipeline import Pipeline


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    dlq = typer.Typer(no_args_is_help=True, help="Dead letters: look at them, fix them, send them back once.")
    dlq.command("list")(list_)
    dlq.command("show")(show)
    dlq.command("redrive")(redrive)
    app.add_typer(dlq, name="dlq", rich_help_panel="Data")


Name = Annotated[str, typer.Argument(help="A pipeline's name.")]
Reason = Annotated[
    list[str] | None, typer.Option("--reason", help="Only those of this kind, as `list` names it.", metavar="KIND")
]


def list_(
    context: typer.Context,
    pipeline: Name,
    reason: Reason = None,
    each: Annotated[bool, typer.Option("--each", help="List single ones.")] = False,
    limit: Annotated[int, typer.Option(help="List so many single ones at most.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """Count a pipeline's dead letters by the reason why they could not be read, and how many were redriven."""
    from penstock.deadletters import render
    from penstock.deadletters.letters import grouped, read_letters
    from penstock.deadletters.markers import redriven

    owner: Context = context.obj
    (declared,) = owner.deployed([pipeline])
    kinds = _kinds(reason)
    markers = _markers(owner, declared)
    with rich_progress(f"dlq list {pipeline}") as progress:
        progress.update(f"reading the dead letters of {declared.source.name}")
        letters = (it for it in read_letters(declared, owner.services.kafka) if not kinds or it.kind in kinds)
        if each:
            found = [(it, redriven(it, markers)) for it in islice(letters, limit)]
        else:
            groups = grouped(letters, lambda it: redriven(it, markers))
    if each:
        if as_json:
            print_json([render.letter_json(it, done) for it, done in found])
        else:
            console().print(render.letters_text(found))
            sys.stderr.write(f"{len(found):,} dead letters{' (--limit)' if len(found) == limit else ''}\n")
        return
    if as_json:
        print_json(render.groups_json(declared, groups))
        return
    total, done = sum(group.letters for group in groups), sum(group.redriven for group in groups)
    if groups:
        console().print(render.groups_text(groups))
    sys.stdout.write(f"{pipeline}: {total:,} dead letters of {declared.source.name}, {done:,} of them redriven\n")


def show(
    context: typer.Context,
    pipeline: Name,
    record: Annotated[str, typer.Argument(help="Where it was in the source topic.", metavar="PARTITION:OFFSET")],
    as_json: Json = False,
) -> None:
    """Show one dead letter: why it is one, its key and bytes, and whether it was redriven."""
    from penstock.deadletters import render
    from penstock.deadletters.letters import parse_place, read_letters, unknown
    from penstock.deadletters.markers import redriven
    from penstock.deadletters.originals import originals

    owner: Context = context.obj
    (declared,) = owner.deployed([pipeline])
    kafka, place = owner.services.kafka, parse_place(record)
    with rich_progress(f"dlq show {pipeline}") as progress:
        progress.update(f"looking for {record}")
        letter = next((it for it in read_letters(declared, kafka) if it.place == place), None)
        if letter is None:
            raise unknown(declared, [place])
        original = originals(kafka, declared.source.name, [place]).get(place)
        done = redriven(letter, _markers(owner, declared))
    if as_json:
        print_json(render.show_json(letter, original, done))
    else:
        sys.stdout.write(render.show_text(declared, letter, original, done))


def redrive(
    context: typer.Context,
    pipeline: Name,
    fix: Annotated[
        str | None,
        typer.Option(
            help="The function that mends a letter: bytes, a dict, or None to leave it dead (default: as it was).",
            metavar="PATH.py:FUNCTION|MODULE:FUNCTION",
        ),
    ] = None,
    reason: Reason = None,
    record: Annotated[
        list[str] | None,
        typer.Option(help="Only this one: where it was in the source topic.", metavar="PARTITION:OFFSET"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="So many letters at most.", min=1)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show before and after, send nothing.")] = False,
    allow: Allow = None,
    as_json: Json = False,
) -> None:
    """Send dead letters back to their source topic: mended, checked, marked, each once for all pipelines of the topic.

    Exit code 1 when one was held back: what would be a dead letter again, or a fix that failed.
    """
    from penstock.deadletters import render
    from penstock.deadletters.fix import load_fix
    from penstock.deadletters.letters import parse_place
    from penstock.deadletters.redrive import FLAGS, Request
    from penstock.deadletters.redrive import redrive as run
    from penstock.pipeline import Aggregate
    from penstock.plan import parse_allow

    owner: Context = context.obj
    (declared,) = owner.deployed([pipeline])
    request = Request(
        fix=load_fix(fix, owner.settings.root) if fix else None,
        reasons=_kinds(reason),
        places=frozenset(map(parse_place, record or ())),
        limit=limit,
        dry_run=dry_run,
        allow=parse_allow(allow or (), FLAGS),
    )
    with rich_progress(f"dlq redrive {pipeline}") as progress:
        done = run(declared, request, owner.services.kafka, owner.settings, progress)
    if as_json:
        print_json(render.redrive_json(done))
    else:
        readers = [it for it in owner.pipelines() if it.source.name == done.topic]
        windowed = [it.name for it in readers if isinstance(it.transform, Aggregate)]
        console().print(render.redrive_text(done, windowed))
    if done.held_back:
        raise PenstockError(
            f"{done.held_back:,} dead letters {'would be' if dry_run else 'were'} held back",
            hint="why is said above; mend the fix and run it again: what was sent is not sent twice",
        )


def _kinds(reasons: Sequence[str] | None) -> frozenset[str]:
    from penstock.json_or_error import KINDS

    strange = [reason for reason in reasons or () if reason not in KINDS]
    if strange:
        raise DeclarationError([f"--reason {it!r}: no such kind" for it in strange], hint=f"kinds: {', '.join(KINDS)}")
    return frozenset(reasons or ())


def _markers(owner: Context, declared: Pipeline) -> Markers:
    from penstock.deadletters.markers import read_markers

    return read_markers(owner.services.kafka, owner.settings.env, declared.source)
