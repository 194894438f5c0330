"""Replay: its job beside a bare one, a whole history, a day's publication, and what live rows notice of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from bench import beside, declared, history, latency, report
from bench.history import Jobs, Whole
from bench.report import Line
from bench.sizes import RATE, Sizes
from bench.stage import Stage, load
from bench.stats import Spread, paired_ratios

HOURS = declared.replayed("bench_hours", declared.hours)
DAY = declared.replayed("bench_day", declared.day)
#: Rows a second that a replay may read beside live rows: a hundred times what comes in.
BESIDE_RATE = 100_000
#: Bytes a second that its consumers may fetch: some 110,000 of these rows, compressed.
BESIDE_BYTES = 5_000_000


def replays(stage: Stage, sizes: Sizes) -> Iterator[Line]:
    """The jobs in turn, then the whole, then the day, then latency with and without."""
    latency.start(stage, HOURS)
    history.fill(stage, declared.hours, sizes.hours, sizes.hours * 3600 * RATE)
    history.ready(stage, HOURS, sizes.hours)
    yield from _jobs(stage, sizes)
    yield from _whole(stage, sizes)
    yield from _day(stage, sizes)
    yield from _beside(stage, sizes)
    latency.end(stage, HOURS)


def _jobs(stage: Stage, sizes: Sizes) -> Iterator[Line]:
    made = Jobs(stage, history.stretch(stage, HOURS, sizes.hours, 1 / sizes.hours))
    numbers = count()
    # The first runs compile: they are left out.
    for _ in range(2):
        stage.progress.update("warming up the bounded jobs")
        made.round(next(numbers))
    runs = []
    for number in range(sizes.rounds):
        stage.progress.update(f"bounded jobs, round {number + 1} of {sizes.rounds}")
        runs.append(made.round(next(numbers)))
    bare, ours = [pair[0] for pair in runs], [pair[1] for pair in runs]
    what = f"Tumble 1 min, batch, {made.made.records:,} events"
    for title, side in (("bare Flink SQL", bare), ("a replay's job", ours)):
        yield report.throughput(f"{what}: {title}", [run.rate for run in side], [run.cpu for run in side], load())
    rates = paired_ratios([run.rate for run in ours], [run.rate for run in bare])
    cpu = paired_ratios([run.cpu for run in bare], [run.cpu for run in ours])
    yield report.ratio("Tumble 1 min, batch: a replay's job / bare", rates, cpu, load(), aim=0.9)


def _whole(stage: Stage, sizes: Sizes) -> Iterator[Line]:
    done = history.replay(stage, HOURS, sizes.hours)
    span, what = sizes.hours * 3600, f"{sizes.hours} h of {RATE:,} events/s"
    detail = f"{done.replay.figures.read:,} records in {done.seconds:.1f} s: {done.words}"
    yield report.real_time(f"Replay of {what}, from plan to receipt", span, done.seconds, detail, load(), aim=300)
    computing = done.of("compute")
    detail = f"{computing:.1f} s, the planner's start included"
    yield report.real_time(f"Replay of {what}, computing alone", span, computing, detail, load(), aim=None)


def _day(stage: Stage, sizes: Sizes) -> Iterator[Line]:
    latency.start(stage, DAY, HOURS)
    history.fill(stage, declared.day, 24, sizes.day)
    done = history.replay(stage, DAY, 24)
    latency.end(stage, DAY)
    yield from day_lines(done, load())


def day_lines(done: Whole, at: float) -> Iterator[Line]:
    """Return what publishing took, and what came before."""
    seconds = done.of("publish", "check")
    what = f"{len(done.replay.figures.after)} segments, {done.rows:,} rows"
    title = "Publishing a day of hours, until the new figures are served"
    yield Line(title, f"{seconds:.1f} s", what, at, "<= 10 s", seconds <= 10)
    detail = "Druid's tasks still held the whole day; asked for when the range is settled"
    yield Line("Hand-off before it", f"{done.of('hand off'):.1f} s", f"{detail}; in all: {done.words}", at)


def _beside(stage: Stage, sizes: Sizes) -> Iterator[Line]:
    latency.start(stage, declared.rows, HOURS)
    live = beside.live_job(stage, declared.rows)
    limited = replace(stage, settings=beside.limited(stage.settings, BESIDE_BYTES))
    with latency.rows_feed(stage) as feed:
        yield _latency("no replay beside", latency.row_latencies(stage, feed, sizes.seconds))
        for title, where, rate in (
            ("a replay beside", stage, None),
            (f"a replay of --rate {BESIDE_RATE:,} beside", stage, BESIDE_RATE),
            (f"a replay with a quota of {BESIDE_BYTES / 1e6:g} MB/s beside", limited, None),
        ):
            with beside.replays(where, HOURS, sizes.hours, live=live, rate=rate) as found:
                line = _latency(title, latency.row_latencies(stage, feed, sizes.seconds))
            held = (
                f"held back by the broker: its consumers {found.held:,.0f} ms, the live job's {found.live_held:,.0f} ms"
            )
            yield replace(line, detail=f"{line.detail}; {held}")
    latency.end(stage, declared.rows)


def _latency(title: str, samples: list[float]) -> Line:
    name = f"Select, produced to returned, {RATE:,} events/s: {title}"
    return report.latency(name, Spread.of(samples), load(), of="rows")
