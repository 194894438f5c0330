"""`make demo`: the real stack, the shipped pipelines, a year of real flights, and the proof that the figures hold."""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import threading
import time
from pathlib import Path

from rich.console import Console

from penstock.cli.context import console as terminal
from penstock.errors import NotEqualError, PenstockError
from penstock.load import load_pipelines
from penstock.pipeline import Pipeline
from penstock.settings import Settings, load_settings
from penstock.wait import rich_progress

SHOWN = "airport_delays"


def run(settings: Settings, *, speedup: float, fresh: bool, console: Console) -> None:
    """Run the demo; raise NotEqualError when a figure does not reconcile."""
    pipelines = load_pipelines(settings.jobs)
    if settings.env.name == "native":
        _heading(console, "1. The stack: Kafka, ZooKeeper, Druid and Flink on this machine")
        _up(settings, console)
    else:
        _heading(console, f"1. The stack: the services of {settings.env.name}")
        _await(settings, console)
    if fresh:
        _remove(settings, pipelines)
    _heading(console, "2. The pipelines: penstock apply")
    _apply(settings, pipelines, console)
    _heading(console, "3. A year of flights from New York, and rolling delays per airport, read from Druid")
    _stream(settings, pipelines, speedup, console)
    _heading(console, "4. The proof: every closed window against the log, recomputed by DuckDB")
    _verify(settings, pipelines, console)
    _next(settings, console)


def _heading(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def _up(settings: Settings, console: Console) -> None:
    from penstock.cli.stack import status_table
    from penstock.stack import status, up
    from penstock.stack.parts import OPTIONAL, left_out

    # Nothing here needs Airflow, and its start takes a while; one that runs is left as it is.
    without = left_out(settings) if any(part.pid for part in status(settings)) else OPTIONAL
    with rich_progress("up") as progress:
        parts = up(settings, progress, without=without)
    console.print(status_table(parts))


def _await(settings: Settings, console: Console) -> None:
    """Wait for services that others start."""
    from penstock.elsewhere import reached
    from penstock.wait import Pending, until

    def answering() -> bool | Pending:
        silent = [f"{it.name}: {it.state}" for it in reached(settings) if it.state != "answers"]
        return Pending("; ".join(silent)) if silent else True

    with rich_progress("services") as progress:
        until("Kafka, Flink and Druid", answering, timeout=300, interval=2, progress=progress)
    for item in reached(settings):
        console.print(f"{item.name}: {item.address}")


def _remove(settings: Settings, pipelines: list[Pipeline]) -> None:
    """Start over: `--fresh` names the loss of the demo's own topics and datasources."""
    from penstock.lifecycle import remove
    from penstock.services.protocols import connect

    services = connect(settings)
    with rich_progress("remove") as progress:
        for pipeline in pipelines:
            remove(pipeline.name, services, settings, delete_topics=True, drop_datasource=True, progress=progress)
        for topic in services.kafka.topics({pipeline.source.name for pipeline in pipelines}):
            services.kafka.delete_topic(topic)


def _apply(settings: Settings, pipelines: list[Pipeline], console: Console) -> None:
    from penstock import render
    from penstock.apply import apply
    from penstock.services.protocols import connect

    with rich_progress("apply") as progress:
        done = apply(pipelines, connect(settings), settings, progress=progress)
    console.print(render.text(done) if done.changes else render.summary(done))


def _stream(settings: Settings, pipelines: list[Pipeline], speedup: float, console: Console) -> None:
    """Produce in a thread while the table is shown.  The order is seeded, so what is there already is skipped.

    Ctrl-C ends the table quietly; where the producer is not done, it is ended too, and the interrupt goes on.
    """
    from penstock.data.flights import departures, flights
    from penstock.data.produce import produce, undelivered
    from penstock.services.druid import Druid
    from penstock.services.kafka import Kafka
    from penstock.watch import watch

    shown = next(pipeline for pipeline in pipelines if pipeline.name == SHOWN)
    offsets = Kafka(settings.env.kafka).end_offsets(shown.source.name, committed=False)
    if there := sum(offsets.values()):
        console.print(
            f"{there:,} flights are in the log already; going on from there (`make demo FRESH=1` starts over)"
        )
    failure: list[BaseException] = []
    done, stop = threading.Event(), threading.Event()

    def write() -> None:
        try:
            events = itertools.takewhile(lambda _: not stop.is_set(), undelivered(flights(), offsets))
            produce(settings.env.kafka, shown.source, events, speedup=speedup)
        except BaseException as error:
            failure.append(error)
        finally:
            done.set()

    started = time.monotonic()
    producer = threading.Thread(target=write, name="producer", daemon=True)
    producer.start()
    try:
        watch(shown, Druid(settings.env.druid).sql, 1.0, until=done.is_set)
        if not done.is_set():
            raise KeyboardInterrupt
    finally:
        stop.set()
        producer.join(timeout=5)  # what it has sent is delivered, or soon given up with the process
        departures.cache_clear()  # a quarter of a gigabyte, which the proof can use
    if failure:
        raise failure[0]
    console.print(f"streamed in {time.monotonic() - started:.0f} s")


def _verify(settings: Settings, pipelines: list[Pipeline], console: Console) -> None:
    from penstock.proof import prove, render

    wrong = []
    for pipeline in pipelines:
        with rich_progress(f"verify {pipeline.name}") as progress:
            ledger = prove(pipeline, settings, progress=progress)
        console.print(render(ledger))
        if not ledger.equal or not ledger.rows_compared:
            wrong.append(pipeline.name)
    if wrong:
        raise NotEqualError(f"not equal: {', '.join(wrong)}", hint="each difference is named above")


def _next(settings: Settings, console: Console) -> None:
    if settings.env.name != "native":
        console.print("\n[bold]equal[/bold].  The stack stays up.")
        return
    flink = settings.env.flink.rest
    activate = "" if shutil.which("penstock") else f"\n  source {_activate()}"
    console.print(
        f"""
[bold]equal[/bold].  The stack stays up.  Look at:{activate}
  {flink}   Flink's own UI: jobs, checkpoints, watermarks
  penstock query 'SELECT "origin", SUM("flights") AS flights FROM "airport_delays" GROUP BY 1'
  penstock plan              what would change: nothing
  penstock verify --all      every segment's account
  penstock status            each part, its memory and address
  penstock status {SHOWN}   watermarks, lag, checkpoints, what Druid serves
  penstock up                starts Airflow too, and says how to log in
Stop it with `make down`; data stays until `make clean`."""
    )


def _activate() -> str:
    """Return the script that puts `penstock` on PATH: that of the virtual environment in which this runs."""
    script = Path(sys.executable).parent / "activate"
    return str(script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--speedup", type=float, default=432_000, help="event time per wall time (432000: 5 days a second)"
    )
    parser.add_argument("--fresh", action="store_true", help="delete the demo's topics and datasources first")
    options = parser.parse_args()
    console = terminal()
    try:
        run(load_settings(), speedup=options.speedup, fresh=options.fresh, console=console)
    except PenstockError as error:
        from penstock.cli.context import fail

        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
