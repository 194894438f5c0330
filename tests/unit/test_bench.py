"""The bench's pure parts: figures, the table, and what is read out of others' answers."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from bench import batch, declared, history, jobs, latency, replays, report
from bench.batch import Stretch
from bench.feed import Feed
from bench.history import Whole
from bench.latency import SENSORS, closed, events_in, newly_seen, reading, tick
from bench.read import fetch_rate
from bench.stage import ROOT, Stage
from bench.stats import Spread, paired_ratios, percentile
from bench.throughput import first_running
from rich.console import Console

from penstock.errors import NotEqualError, PenstockError
from penstock.replay.record import Asked, Count, Figures, Replay
from penstock.services.protocols import Services
from penstock.settings import Environment, FlinkSettings, KafkaSettings, load_settings
from penstock.validate import problems
from penstock.wait import Silent

ENV = Environment(name="native", kafka=KafkaSettings(bootstrap="k:1"), flink=FlinkSettings(parallelism=2))


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0, 0.2, 0.21, 0.5, 0.95, 1)] == [1, 1, 2, 3, 5, 5]
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([7.0], 0.5) == 7


def test_percentiles_that_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="from 0 to 1"):
        percentile([1.0], 50)


def test_a_spread_of_samples() -> None:
    assert Spread.of([n / 1000 for n in range(200, 0, -1)]) == Spread(0.1, 0.19, 0.198, 0.2, 200)


def test_the_ratio_is_of_rounds_so_a_slowing_machine_cancels_out() -> None:
    assert paired_ratios([90, 45, 9], [100, 50, 10]) == pytest.approx([0.9] * 3)
    with pytest.raises(ValueError, match="longer"):
        paired_ratios([1], [1, 2])


def test_lines_say_whether_the_aim_is_met() -> None:
    spread = Spread(0.61, 1.02, 1.49, 1.6, 45_000)
    met = report.latency("Select", spread, 2.04, of="rows", aim_p99=1.5)
    assert met.cells == (
        "Select",
        "p50 610 ms, p95 1,020 ms, p99 1,490 ms",
        "45,000 rows, worst 1,600 ms",
        "p99 < 1,500 ms met",
        "2.0",
    )
    assert report.latency("Select", spread, 2, of="rows", aim_p99=1.49).met is False
    assert report.latency("Select", spread, 2, of="rows").cells[3] == ""
    assert (report.ratio("t", [0.9], [1], 2, aim=0.9).met, report.ratio("t", [0.899], [1], 2, aim=0.9).met) == (
        True,
        False,
    )
    line = report.throughput("Tumble", [500_000, 400_000, 450_000], [2.0, 2.5, 3.0], 1)
    assert line.cells[1:3] == ("450,000 events/s", "400,000 to 500,000 in 3 runs; 2.50 µs CPU/event")


def test_the_table_and_the_page_hold_every_line() -> None:
    lines = [
        report.throughput("bare", [1_000.0], [2.0], 1.5),
        report.ratio("ours | bare", [0.5], [0.6], 1.5, aim=0.9),
    ]
    console = Console(file=io.StringIO(), width=160)
    console.print(report.table(lines, "today"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1,000 events/s" in shown and ">= 0.9 missed" in shown and "today" in shown
    page = report.markdown({"Throughput": lines}, {"Date": "today", "Command": "`make bench`"}, "## How\n")
    assert "## Throughput\n\n- Date: today\n- Command: `make bench`\n" in page
    assert "| bare | 1,000 events/s | 1 run; 2.00 µs CPU/event |  | 1.5 |\n" in page
    assert "| ours \\| bare | 0.50 |" in page
    assert page.endswith("## How\n")


def test_one_part_of_the_page_is_measured_again_and_the_others_are_left() -> None:
    lines = {name: [report.throughput(f"in {name}", [1_000.0], [2.0], 1.5)] for name in ("Throughput", "Replay")}
    page = report.markdown(lines, {"Date": "yesterday"}, "## How\n\nOnce.\n")
    anew = report.part("Replay", [report.throughput("in Replay", [9_000.0], [2.0], 1.5)], {"Date": "today"})
    changed = report.replaced(page, "Replay", anew, "## How\n\nOtherwise.\n")
    first, second = changed.split("\n## Replay\n")
    assert first.rstrip() == page.split("\n## Replay\n")[0].rstrip()
    assert "9,000 events/s" in second and "yesterday" not in second and "Once" not in second
    assert changed.endswith("\n\n## How\n\nOtherwise.\n") and changed.count("## How") == 1
    assert report.replaced(changed, "Replay", anew, "## How\n\nOtherwise.\n") == changed
    without = report.markdown({"Throughput": lines["Throughput"]}, {"Date": "yesterday"}, "## How\n")
    added = report.replaced(without, "Replay", anew, "## How\n")
    assert added == without.removesuffix("## How\n") + anew + "\n\n## How\n"


def test_a_history_is_replayed_so_many_times_as_fast_as_it_came() -> None:
    met, missed = (report.real_time("all", 3600, took, "x", 1, aim=300) for took in (12.0, 12.1))
    assert (met.cells[1], met.cells[3]) == ("300 times real time", ">= 300 met") and missed.met is False
    assert report.real_time("compute", 3600, 36, "x", 1, aim=None).cells[1::2] == ("100 times real time", "")


def test_a_publication_is_told_with_what_came_before() -> None:
    seconds = {"close": 0.4, "compute": 20.0, "hand off": 7.0, "publish": 4.0, "check": 6.5}
    counts = {hour: Count(rows=10, events=100) for hour in range(24)}
    asked = Asked(0, 1, 0, 1)
    done = Whole(Replay("r", "p", "v", asked, seconds=seconds, figures=Figures(after=counts)), 40.0)
    published, handed_off = replays.day_lines(done, 1.0)
    assert (published.result, published.detail, published.met) == ("10.5 s", "24 segments, 240 rows", False)
    assert handed_off.result == "7.0 s" and handed_off.detail.endswith(
        "compute 20.0, hand off 7.0, publish 4.0, check 6.5"
    )


def test_the_bounded_jobs_read_and_write_alike() -> None:
    pipeline = declared.replayed("bench_hours", declared.hours)
    assert problems(pipeline) == []
    made = Stretch(pipeline, history.scope(pipeline, 2), {0: 5, 1: 7}, {0: 10, 1: 9})
    assert made.records == 7
    ours, bare = batch.replay_job(made, ENV, 1), batch.bare_job(made, ENV, 2)
    own = {"pipeline.name", "$internal.pipeline.job-id"}
    assert {key for key in ours.config if ours.config[key] != bare.config.get(key)} == own
    for spec in (ours, bare):
        assert "'scan.startup.specific-offsets' = 'partition:0,offset:5;partition:1,offset:7'" in spec.tables[0]
        assert "'scan.bounded.specific-offsets' = 'partition:0,offset:10;partition:1,offset:9'" in spec.tables[0]
        assert "'connector' = 'filesystem'" in spec.tables[1] and spec.folder in spec.tables[1]
        assert "INTERVAL '1' MINUTE" in spec.statement and str(made.scope.end) in spec.statement
    assert ours.job_id != bare.job_id and ours.folder != bare.folder


def test_the_clicks_of_files_are_added_up(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b")]
    for number, file in enumerate(files):
        file.write_text(f'{{"clicks":{number + 1},"page":"x"}}\n{{"clicks":10}}\n', encoding="utf-8")
    assert history.clicks(files) == 23


def test_the_consumer_benchmarks_answer() -> None:
    text = "2026-01-01 00:00:00:1, 2026-01-01 00:00:02:0, 57.3, 28.6, 500123, 250061.5, 410, 1590, 36.0, 314542.8\n"
    assert fetch_rate("WARN something, else\n" + text, 500_000) == 314542.8
    for broken in ("", text.replace("500123", "499999"), "Exiting before consuming"):
        with pytest.raises(PenstockError, match="did not read 500000 events"):
            fetch_rate(broken, 500_000)


def test_a_jobs_time_begins_with_its_first_running_task() -> None:
    def task(end: int, running: int, attempt: int = 0) -> dict[str, object]:
        return {"end-time": end, "status-duration": {"RUNNING": running, "DEPLOYING": 40}, "attempt": attempt}

    assert first_running([task(10_000, 4_000), task(11_000, 5_500)]) == 5_500
    with pytest.raises(PenstockError, match="restarted"):
        first_running([task(10_000, 4_000, attempt=1)])
    with pytest.raises(PenstockError, match="no source"):
        first_running([])


def test_rows_are_seen_once_by_each_sensors_highest_number() -> None:
    seen = {f"sensor-{number}": number - SENSORS for number in range(SENSORS)}
    assert list(newly_seen(seen, {"sensor-1": 1 + 2 * SENSORS, "sensor-3": 3})) == [1, 1 + SENSORS, 1 + 2 * SENSORS, 3]
    assert list(newly_seen(seen, {"sensor-1": 1 + 2 * SENSORS})) == []
    assert list(newly_seen(seen, {"sensor-1": 1 + 3 * SENSORS})) == [1 + 3 * SENSORS]
    assert reading(SENSORS + 3, 1).key == reading(3, 1).key == b"sensor-3"
    assert reading(-SENSORS + 3, 1).key == b"sensor-3"


def test_a_windows_events() -> None:
    assert events_in([999, 1000, 1000, 1999, 2000], 1000) == 3
    assert {tick(number, 1).partition for number in range(4)} == {0, 1, 2, 3}


class _Log(Feed):
    """A feed that sends nothing; `fill` adds an event every millisecond up to a moment (perf_counter)."""

    def __init__(self) -> None:
        super().__init__(KafkaSettings(), declared.ticks, tick, 1_000)
        self.began, self.wall = time.perf_counter() - 1, time.time_ns() // 1_000_000 - 1_000
        self.fill()

    def fill(self) -> None:
        while (at := self.began + len(self.sent) / 1_000) <= time.perf_counter():
            self.dated.append(self.wall + len(self.sent))
            self.sent.append(at)


def _asked(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], list[list[Any]]]) -> Stage:
    """Return a stage whose Druid gives `answer` to each query."""
    monkeypatch.setattr(latency, "SETTLE", 0.0)
    monkeypatch.setattr(latency.Sql, "rows", lambda _, query: answer(query))
    return Stage(load_settings(ROOT, environ={}), cast(Services, None), Silent())


def test_every_row_sent_in_time_is_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    log = _Log()

    def answer(_: str) -> list[list[Any]]:
        log.fill()
        shown = [n for n in range(len(log.sent)) if log.sent[n] < time.perf_counter() - 0.3]
        return [[f"sensor-{n % SENSORS}", n] for n in shown[-SENSORS:]]

    first = len(log.sent)
    samples = latency.row_latencies(_asked(monkeypatch, answer), log, 0.5)
    # Half a second's rows, each from when it was sent; how much later it is looked at is this machine's affair.
    assert len(samples) >= 450 and len(log.sent) > first + 500
    assert min(samples) >= 0.3


def test_a_window_is_a_sample_once_all_its_events_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    log = _Log()

    def answer(_: str) -> list[list[Any]]:
        log.fill()
        now = log.dated[-1]
        windows = range(now // 1000 * 1000 - 4_000, now - 1_000 - declared.BOUND_MS - 200, 1_000)
        # Some of a window's keys are there before the others.
        return [[w, events_in(log.dated, w) - (5 if now < w + 1_500 else 0)] for w in windows]

    samples = latency.window_latencies(_asked(monkeypatch, answer), log, 2)
    assert len(samples) == 2
    assert all(0.35 < sample < 0.75 for sample in samples)


def test_doubled_events_end_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    log = _Log()

    def answer(_: str) -> list[list[Any]]:
        log.fill()
        return [[log.dated[-1] // 1000 * 1000, 5_000]]

    with pytest.raises(NotEqualError, match="5000 events of"):
        latency.window_latencies(_asked(monkeypatch, answer), log, 2)


def test_a_window_closes_with_the_last_partitions_event() -> None:
    log = _Log()
    log.dated, log.sent = [1000, 2098, 2099, 2100, 2101, 2102], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert closed(log, 1000) == 5.0


def test_what_is_measured_is_well_declared() -> None:
    windowed = [declared.windowed("bench_x", declared.clicks, window) for window in (declared.TUMBLE, declared.HOP)]
    assert [problems(pipeline) for pipeline in [*windowed, declared.rows, declared.seconds]] == [[], [], [], []]


def test_both_jobs_of_a_pair_end_with_the_log_and_are_configured_alike() -> None:
    pipeline = declared.windowed("bench_hop", declared.clicks, declared.HOP)
    ours, bare = jobs.penstock_job(pipeline, ENV, 1), jobs.bare_job(pipeline, ENV, 1)
    for spec in (ours, bare):
        assert "'scan.bounded.mode' = 'latest-offset'" in spec.tables[0]
        assert "'topic' = 'bench.clicked.v1'" in spec.tables[0]
    own = {"pipeline.name", "$internal.pipeline.job-id"}
    assert {key for key in ours.config | bare.config if ours.config.get(key) != bare.config.get(key)} == own
    assert (len(ours.tables), len(bare.tables)) == (4, 2)
    assert "HOP(TABLE clicks, DESCRIPTOR(et), INTERVAL '1' SECOND, INTERVAL '10' SECOND)" in bare.statements
    tumble = declared.windowed("bench_tumble", declared.clicks, declared.TUMBLE)
    assert "TUMBLE(TABLE clicks, DESCRIPTOR(et), INTERVAL '1' SECOND)" in jobs.bare_job(tumble, ENV, 1).statements


def test_every_run_is_a_job_of_its_own() -> None:
    pipeline = declared.windowed("bench_hop", declared.clicks, declared.HOP)
    for make in (jobs.penstock_job, jobs.bare_job):
        first, second = make(pipeline, ENV, 1), make(pipeline, ENV, 2)
        assert first.job_id != second.job_id and first.version == second.version
        prefixes = [[line for line in spec.tables[1].splitlines() if "id-prefix" in line] for spec in (first, second)]
        assert prefixes[0] != prefixes[1]
