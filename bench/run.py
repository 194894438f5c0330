"""The measurements in their order, each a generator of the table's lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bench import declared, latency, report, throughput
from bench.read import consumer_benchmark
from bench.replays import replays
from bench.report import Line
from bench.sizes import RATE, Sizes
from bench.stage import Stage, load
from bench.stats import Spread, paired_ratios
from bench.throughput import Pair
from penstock.data.generator import generate
from penstock.data.load import Clock, Faults, Load
from penstock.data.load import Spread as Keys
from penstock.data.meter import meter
from penstock.data.produce import produce
from penstock.pipeline import Hop, Topic, Tumble

Section = Callable[[Stage, Sizes], Iterator[Line]]


def throughputs(stage: Stage, sizes: Sizes) -> Iterator[Line]:
    """Read limit, then bare and Penstock in turn for each window, then the faulty log."""
    windows: dict[str, Tumble | Hop] = {"Tumble 1 s": declared.TUMBLE, "Hop 10 s by 1 s": declared.HOP}
    pairs = {
        title: Pair(declared.windowed(f"bench_{type(window).__name__.lower()}", declared.clicks, window), sizes.events)
        for title, window in windows.items()
    }
    for pair in pairs.values():
        throughput.prepare(stage, pair.pipeline)
    throughput.prepare(stage, throughput.FAULTY)
    _fill(stage, declared.clicks, sizes.events, Faults())
    _fill(stage, declared.faulty, sizes.events, Faults(malformed=0.01, late=0.05))
    rate = consumer_benchmark(stage, declared.clicks.name, sizes.events)
    detail = f"{sizes.events:,} JSON clicks of about 120 bytes, 4 partitions, 1 consumer"
    yield Line("Kafka's own consumer benchmark", f"{rate:,.0f} events/s", detail, load())
    throughput.warm_up(stage, [pair.pipeline for pair in pairs.values()], [throughput.FAULTY])
    for title, pair in pairs.items():
        for number in range(sizes.rounds):
            stage.progress.update(f"{title}, round {number + 1} of {sizes.rounds}")
            pair.measure(stage)
        yield from _pair_lines(title, pair)
    yield _faulty(stage, sizes)


def _pair_lines(title: str, pair: Pair) -> Iterator[Line]:
    rates = {name: [run.rate for run in runs] for name, runs in (("bare", pair.bare), ("ours", pair.ours))}
    cpu = {name: [run.cpu for run in runs] for name, runs in (("bare", pair.bare), ("ours", pair.ours))}
    yield report.throughput(f"{title}: bare Flink SQL", rates["bare"], cpu["bare"], load())
    yield report.throughput(f"{title}: Penstock, all branches", rates["ours"], cpu["ours"], load())
    by_time, by_cpu = paired_ratios(rates["ours"], rates["bare"]), paired_ratios(cpu["bare"], cpu["ours"])
    yield report.ratio(f"{title}: Penstock / bare", by_time, by_cpu, load(), aim=0.9)


def _faulty(stage: Stage, sizes: Sizes) -> Line:
    run, late, dead = throughput.run_faulty(stage, sizes.events)
    title = "Tumble 1 s: Penstock, 1 % malformed, 5 % late"
    detail = f"{dead:,} dead letters, {late:,} late, all else counted; {run.cpu:.2f} µs CPU/event"
    return Line(title, f"{run.rate:,.0f} events/s", detail, load())


def _fill(stage: Stage, topic: Topic, events: int, faults: Faults) -> None:
    """Write the log that the jobs read: a quarter of a millisecond of event time an event, 1,000 users, 20 pages."""
    what = Load(events, seed=1, clock=Clock(step_ms=0.25), spread=Keys(keys=1_000), faults=faults)
    with meter(f"writing {topic.name}", events) as shown:
        produce(stage.settings.env.kafka, topic, generate(topic, what), progress=shown)


def latencies(stage: Stage, sizes: Sizes) -> Iterator[Line]:
    """Rows and queries over one running pipeline, then windows over another."""
    latency.start(stage, declared.rows)
    latency.add_history(stage, sizes.history)
    with latency.rows_feed(stage) as feed:
        spread = Spread.of(latency.row_latencies(stage, feed, sizes.seconds))
        title = f"Select, produced to returned by Druid's SQL, {RATE:,} events/s"
        yield report.latency(title, spread, load(), of="rows", aim_p99=1.5)
        for name, query in (("group-by", latency.GROUP_BY), ("filtered top-N", latency.TOP_N)):
            spread = Spread.of(latency.query_times(stage, feed, query, sizes.queries))
            of = f"queries of some {round((sizes.history + len(feed.sent)) / 1000)} thousand rows"
            title = f"Druid {name} while ingesting {RATE:,} events/s"
            yield report.latency(title, spread, load(), of=of, aim_p99=0.2)
        latency.check_rows(stage, feed, sizes.history)
    latency.end(stage, declared.rows)
    latency.start(stage, declared.seconds)
    with latency.ticks_feed(stage) as feed:
        spread = Spread.of(latency.window_latencies(stage, feed, sizes.seconds))
        yield report.latency("Tumble 1 s, closed to returned by Druid's SQL", spread, load(), of="windows")
    latency.end(stage, declared.seconds)


SECTIONS: Mapping[str, Section] = {"throughput": throughputs, "latency": latencies, "replay": replays}
