"""Run the ledger against the real services, and print what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from penstock.durations import format_duration, millis
from penstock.errors import DeclarationError, PenstockError
from penstock.flink.spec import job_name
from penstock.generation import deployed
from penstock.healing import Healing
from penstock.ledger import verify
from penstock.pipeline import Aggregate, Pipeline
from penstock.reconcile import Ledger
from penstock.replay.record import Replay, Replays
from penstock.replay.scope import utc
from penstock.segments import moment, widen
from penstock.settings import Settings
from penstock.wait import Progress

if TYPE_CHECKING:
    from rich.console import Group

#: Segments that are listed where all is equal.
LISTED = 12


def prove(
    pipeline: Pipeline,
    settings: Settings,
    *,
    start: str | None = None,
    end: str | None = None,
    timeout: float = 120,
    progress: Progress | None = None,
) -> Ledger:
    """Verify a pipeline between two UTC dates in text, widened to whole segments; None is unbounded.

    Raises DeclarationError for a date that can't be read, and whatever `penstock.ledger.verify` does.
    """
    from penstock.deadletters.markers import read_markers
    from penstock.services.druid import Druid
    from penstock.services.flink import Flink
    from penstock.services.kafka import Kafka
    from penstock.services.registry import Registry, producer

    first, last = widen(
        None if start is None else moment("--from", start),
        None if end is None else moment("--to", end),
        pipeline.sink.segment,
    )
    if first is not None and last is not None and first >= last:
        raise DeclarationError(f"--from {start} is not before --to {end}")
    flink, kafka = Flink(settings.env.flink), Kafka(settings.env.kafka)
    records = Registry(settings.env, kafka).read()
    pipeline = deployed(pipeline, records.get(pipeline.name))
    first, note = _since(pipeline, first)
    replays = Replays(settings.env, kafka, producer(settings.env.kafka)).read().values()
    markers = read_markers(kafka, settings.env, pipeline.source)

    def watermark() -> int | None:
        try:
            running = [job for job in flink.jobs() if job.name == job_name(pipeline.stream) and job.running]
            if not running:
                return None
            reached = flink.watermark(running[0].id)
            # What has fired by now may be in no checkpoint yet, and so in no transaction that ends with one.
            flink.trigger_checkpoint(running[0].id)
            return reached
        except PenstockError:
            return None  # the result topic tells the horizon too, a little less far

    ledger = verify(
        pipeline,
        settings,
        log=kafka,
        druid=Druid(settings.env.druid).sql,
        watermark=watermark,
        start=first,
        end=last,
        healings=healings(pipeline, replays),
        redriven=[(*place, it.timestamp) for place, it in markers.items()],
        timeout=timeout,
        progress=progress,
    )
    ledger.notes.extend([*note, *_overlap(pipeline)])
    return ledger


def _since(pipeline: Pipeline, start: int | None) -> tuple[int | None, list[str]]:
    """Begin where the running generation does: what lies before is of another one, and follows another logic."""
    launch = pipeline.launch
    if launch is None or (start is not None and start >= launch.since):
        return start, []
    return launch.since, [f"figures before {utc(launch.since)} are not of this generation: they are not compared"]


def healings(pipeline: Pipeline, replays: Iterable[Replay]) -> list[Healing]:
    """Return what replays of the pipeline have published, in that order."""
    return [
        Healing(
            it.asked.wide_start,
            it.asked.wide_end,
            it.cut.high,
            it.settled.out,
            {start: count.events for start, count in it.figures.computed.items()},
        )
        for it in replays
        if it.published(pipeline) and it.cut is not None and it.settled is not None
    ]


def _overlap(pipeline: Pipeline) -> list[str]:
    """Say what the counts of a sliding window are, since each event is in several."""
    transform = pipeline.transform
    if not isinstance(transform, Aggregate) or transform.window.size == transform.window.slide:
        return []
    size = millis(transform.window.size)
    times, length = size // millis(transform.window.slide), format_duration(timedelta(milliseconds=size))
    return [f"each event is in {times} windows of {length}; a segment counts it in each that starts there"]


def to_json(ledger: Ledger) -> dict[str, Any]:
    """Return a ledger as JSON data, with its conclusions."""
    segments = [
        asdict(segment) | {"shortfall": segment.shortfall, "excess": segment.excess, "equal": segment.equal}
        for segment in ledger.segments
    ]
    return asdict(ledger) | {"on_time": ledger.on_time, "equal": ledger.equal, "segments": segments}


def summary(ledger: Ledger) -> str:
    """Return the verdict in one line."""
    compared = (
        f"{ledger.windows_compared:,} windows compared ({ledger.rows_compared:,} rows), {ledger.windows_open:,} open"
        if ledger.windows_compared or ledger.windows_open
        else f"{ledger.rows_compared:,} rows compared"
    )
    verdict = "NOT EQUAL" if not ledger.equal else "equal" if ledger.rows_compared else "nothing to compare yet"
    early = f" + {ledger.too_early:,} too early" if ledger.too_early else ""
    filtered = f" + {ledger.filtered:,} filtered out" if ledger.filtered else ""
    return (
        f"{ledger.pipeline}: {verdict}: {compared}; {ledger.read:,} read = {ledger.on_time:,} on time + "
        f"{ledger.late:,} late{early} + {ledger.dead_lettered:,} dead-lettered{filtered}"
    )


COLUMNS = ("read", "filtered", "late", "open", "counted", "healed", "made_good", "druid", "shortfall", "differing")
#: Those that are shown only where a segment has such events, or such rows.
RARE = ("healed", "made_good", "differing")


def render(ledger: Ledger, *, all_segments: bool = False) -> Group:
    """Return a ledger as a reader sees it: verdict, segments (those that differ, or the last few), differences."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    names = [it for it in COLUMNS if it not in RARE or any(getattr(segment, it) for segment in ledger.segments)]
    table.add_column("segment")
    for name in names:
        table.add_column(name.replace("druid", "Druid").replace("_", " "), justify="right")
    wrong = [segment for segment in ledger.segments if not segment.equal]
    listed = ledger.segments if all_segments else (wrong or ledger.segments)[-LISTED:]
    for segment in listed:
        counts = [getattr(segment, name) for name in names]
        table.add_row(segment.start, *(f"{count:,}" for count in counts), style=None if segment.equal else "red")
    lines: list[Any] = [Text(summary(ledger), style="bold green" if ledger.equal else "bold red")]
    lines += [Text(f"note: {note}", style="yellow") for note in ledger.notes]
    if len(listed) < len(ledger.segments):
        lines.append(Text(f"{len(listed)} of {len(ledger.segments)} segments (--all lists every one)", style="dim"))
    lines.append(table)
    lines += [Text(line, style="red") for line in ledger.differences]
    if ledger.more_differences:
        lines.append(Text(f"... and {ledger.more_differences:,} more", style="red"))
    return Group(*lines)
