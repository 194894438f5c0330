"""Verbs that read and write data: produce, query, watch, verify."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.context import Context, console, print_json
from penstock.cli.stack import Json
from penstock.errors import DeclarationError, NotEqualError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.data.event import Event
    from penstock.pipeline import Topic


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    produced = typer.Typer(no_args_is_help=True, help="Write events to a topic: the real flights, or generated ones.")
    produced.command("flights")(produce_flights)
    produced.command("generate")(produce_generated)
    app.add_typer(produced, name="produce", rich_help_panel="Data")
    for verb in (query, watch, verify):
        app.command(rich_help_panel="Data")(verb)


Speedup = Annotated[float | None, typer.Option(help="Event time per wall time: 86400 is a day a second.", min=1)]
Seed = Annotated[int, typer.Option(help="The same seed gives the same events.")]


def produce_flights(
    context: typer.Context,
    speedup: Speedup = None,
    limit: Annotated[int | None, typer.Option(help="Stop after so many events.", min=1)] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on after what the topic holds of a run that was broken off.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Write the year 2013 of New York's departures, in the order in which they were reported."""
    from penstock.data.flights import departures, flights
    from penstock.data.produce import undelivered
    from penstock.services.kafka import Kafka

    owner: Context = context.obj
    name = "flights.departed.v1"
    events, total = flights(seed, limit), min(len(departures()), limit or len(departures()))
    if resume:
        there = Kafka(owner.settings.env.kafka).end_offsets(name, committed=False)
        events, total = undelivered(events, there), max(0, total - sum(there.values()))
    _produce(owner, name, events, total, speedup, None, as_json)


def produce_generated(  # noqa: PLR0913  (a command's options)
    context: typer.Context,
    topic: Annotated[str, typer.Argument(help="A topic that a pipeline of this project reads.")],
    count: Annotated[int, typer.Option(min=1)] = 100_000,
    rate: Annotated[float | None, typer.Option(help="Events a second (default: as fast as possible).", min=1)] = None,
    disorder: Annotated[float | None, typer.Option(help="Seconds that events are out of order.", min=0)] = None,
    late: Annotated[float, typer.Option(help="Share dated behind the watermark.", min=0, max=1)] = 0.0,
    late_by: Annotated[float, typer.Option(help="Seconds that late events are further back.", min=1)] = 7200.0,
    too_early: Annotated[float, typer.Option(help="Share dated far ahead.", min=0, max=1)] = 0.0,
    duplicate: Annotated[float, typer.Option(help="Share sent again.", min=0, max=1)] = 0.0,
    malformed: Annotated[float, typer.Option(help="Share that can't be read.", min=0, max=1)] = 0.0,
    hot_key: Annotated[float, typer.Option(help="Share that has one and the same key.", min=0, max=1)] = 0.0,
    keys: Annotated[int, typer.Option(help="How many keys there are.", min=1)] = 100,
    idle: Annotated[list[int] | None, typer.Option(help="A partition that gets nothing.")] = None,
    start: Annotated[str, typer.Option(help="Event time of the first event, UTC.")] = "2024-01-01",
    step: Annotated[float, typer.Option(help="Event time between events, ms.", min=0.001)] = 10.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Write seeded events of a declared topic: disorder, late, duplicate, malformed ones, a hot key, as told."""
    from penstock.data.generator import generate
    from penstock.data.load import Clock, Faults, Load, Spread
    from penstock.segments import moment

    owner: Context = context.obj
    load = Load(
        count,
        seed,
        Clock(moment("--start", start), step, disorder, late_by),
        Spread(keys, hot_key, tuple(idle or ())),
        Faults(late=late, duplicate=duplicate, malformed=malformed, too_early=too_early),
    )
    _produce(owner, topic, generate(_topic(owner, topic), load), count, None, rate, as_json)


def _produce(
    owner: Context,
    name: str,
    events: Iterable[Event],
    total: int,
    speedup: float | None,
    rate: float | None,
    as_json: bool,
) -> None:
    from penstock.data.meter import meter
    from penstock.data.produce import produce

    with meter(name, total) as progress:
        done = produce(
            owner.settings.env.kafka, _topic(owner, name), events, speedup=speedup, rate=rate, progress=progress
        )
    if as_json:
        print_json(asdict(done))
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(done.kinds.items()))
    sys.stdout.write(f"{name}: {done.count:,} records in {done.seconds:.1f} s, {done.rate:,.0f}/s ({kinds})\n")


def _topic(owner: Context, name: str) -> Topic:
    topics = {pipeline.source.name: pipeline.source for pipeline in owner.pipelines()}
    if name not in topics:
        raise DeclarationError(f"no pipeline reads topic {name!r}; there are: {', '.join(topics)}")
    return topics[name]


def query(
    context: typer.Context,
    sql: Annotated[str, typer.Argument(help='Druid SQL, such as: SELECT COUNT(*) FROM "airport_delays"')],
    as_json: Json = False,
) -> None:
    """Ask Druid in SQL."""
    from rich.table import Table

    from penstock.services.druid import Druid

    owner: Context = context.obj
    rows = Druid(owner.settings.env.druid).sql(sql)
    if as_json:
        print_json(rows)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0] if rows else []:
        table.add_column(name, justify="right" if isinstance(rows[0][name], (int, float)) else "left")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    console().print(table)
    sys.stderr.write(f"{len(rows):,} rows\n")


def watch(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument()] = "airport_delays",
    interval: Annotated[float, typer.Option(help="Seconds between looks.", min=0.1)] = 1.0,
) -> None:
    """Show a pipeline's newest figures, read from Druid, as they change.  Ctrl-C ends it."""
    from penstock.services.druid import Druid
    from penstock.watch import watch as run

    owner: Context = context.obj
    (declared,) = owner.pipelines([pipeline])
    run(declared, Druid(owner.settings.env.druid).sql, interval)


def verify(
    context: typer.Context,
    pipelines: Annotated[list[str] | None, typer.Argument(help="Pipelines (default: all).")] = None,
    start: Annotated[str | None, typer.Option("--from", help="UTC, such as 2013-02-01 or 2013-02-01T06:00Z.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="UTC, exclusive; both are widened to whole segments.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the job and for Druid.", min=1)] = 120.0,
    all_segments: Annotated[bool, typer.Option("--all", help="List every segment.")] = False,
    as_json: Json = False,
) -> None:
    """Prove the figures: read = counted + late + dead-lettered, per segment, from the log down to Druid."""

    from penstock.proof import prove, render, to_json
    from penstock.wait import rich_progress

    owner: Context = context.obj
    declared, ledgers = owner.pipelines(pipelines or ()), []
    try:
        for pipeline in declared:
            with rich_progress(f"verify {pipeline.name}") as progress:
                ledger = prove(pipeline, owner.settings, start=start, end=end, timeout=timeout, progress=progress)
            ledgers.append(ledger)
            if not as_json:
                console().print(render(ledger, all_segments=all_segments))
    finally:  # what is finished is not lost where a later one fails
        if as_json:
            print_json([to_json(ledger) for ledger in ledgers])
    wrong = [ledger.pipeline for ledger in ledgers if not ledger.equal]
    if wrong:
        raise NotEqualError(f"not equal: {', '.join(wrong)}", hint="each difference is named above")
