"""Which vital signs deserve attention, and how they are shown."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from penstock.vitals.model import (
    Checkpoints,
    Partition,
    Records,
    Run,
    Running,
    Served,
    Task,
    Vitals,
    attention,
    watermark,
)
from penstock.vitals.render import render, size, span, to_json

NOW = 1_750_000_000_000
MARK = NOW - 5_000

WELL = Vitals(
    pipeline="clicks",
    at=NOW,
    job=Running(
        id="ab12",
        state="RUNNING",
        started=NOW - 600_000,
        records=Records(read=1000, out=40, late=7, per_second=12.5),
        tasks=(Task("source > Calc", busy=0.25, backpressured=0.0), Task("GlobalWindowAggregate > out")),
        checkpoints=Checkpoints(
            completed=60, failed=1, restored=2, completed_at=NOW - 800, duration=95, size=25_588, last_failed=False
        ),
    ),
    partitions=(
        Partition(0, end=500, position=500, watermark=MARK),
        Partition(1, end=510, position=505, watermark=MARK + 400),
        Partition(2, end=0, idle=True),
    ),
    kept={"penstock.clicks.late": 9, "penstock.clicks.dlq": 0},
    served=Served("RUNNING", healthy=True, rows=40, newest=MARK - 60_000, served_to=MARK - 1_000, behind=0),
    runs=(Run("penstock.clicks", "manual__1", "success", NOW - 90_000, NOW - 30_000),),
    disorder=2_000,
)


def page(vitals: Vitals) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(render(vitals))
    return out.getvalue()


def changed(**more: object) -> Vitals:
    assert WELL.job is not None
    return replace(WELL, job=replace(WELL.job, **more))  # type: ignore[arg-type]


def test_a_well_pipeline_asks_for_nothing() -> None:
    assert attention(WELL) == []
    assert watermark(WELL) == MARK


def test_every_figure_is_there_with_its_unit() -> None:
    text = " ".join(page(WELL).split())
    for figure in (
        "clicks: RUNNING for 10 min, restored 2 times (job ab12)",
        "0 2025-06-15 15:06:35 5.0 s 500 500 0 records",
        "1 2025-06-15 15:06:35 4.6 s 505 510 5 records",
        "2 idle - ? 0 ? ",
        "source > Calc 25% 0%",
        "GlobalWindowAggregate > out ? ?",
        "1,000 in (12/s), 40 out, 7 late, 0 dead-lettered; since the job's start",
        "penstock.clicks.late at most 9, penstock.clicks.dlq at most 0 records",
        "800 ms old, 25.6 kB, took 95 ms; 60 completed, 1 failed",
        "RUNNING, 40 rows; 0 records of .out not read yet, as of 30 s ago at most",
        "newest row 2025-06-15 15:05:35 UTC, 1 min 5 s ago; served up to 1.0 s of event time before the watermark",
        "penstock.clicks manual__1 success 2025-06-15 15:05:10 1 min",
    ):
        assert figure in text, text


@pytest.mark.parametrize(
    ("vitals", "level", "words"),
    [
        (replace(WELL, job=None), "bad", "no job runs"),
        (changed(state="RESTARTING"), "bad", "the job is RESTARTING"),
        (changed(records=Records(dropped=3, per_second=9)), "bad", "3 rows were dropped by a window"),
        (changed(records=Records(dead_lettered=2, per_second=9)), "warning", "2 records could not be read"),
        (changed(tasks=(Task("sink", busy=0.97),)), "warning", "sink is held up, or busy"),
        (changed(tasks=(Task("sink", busy=0.1, backpressured=0.6),)), "warning", "sink is held up, or busy"),
        (changed(checkpoints=Checkpoints(completed_at=NOW - 61_000)), "bad", "checkpoints are old"),
        (changed(checkpoints=Checkpoints(failed=4)), "bad", "checkpoints are old"),
        (
            changed(checkpoints=Checkpoints(completed_at=NOW, last_failed=True)),
            "warning",
            "checkpoints are old, or fail",
        ),
        (replace(WELL, partitions=(Partition(3, end=751, position=0, watermark=MARK),)), "warning", "partition 3 lags"),
        (replace(WELL, partitions=(Partition(0, 5, 5, MARK), Partition(1, 5, 5))), "warning", "partition 1 lags, or"),
        (
            replace(WELL, partitions=(Partition(0, 5, 5, MARK), Partition(1, 5, 5, MARK - 60_001))),
            "warning",
            "holds windows back",
        ),
        (replace(WELL, served=Served("SUSPENDED", healthy=False)), "bad", "Druid's supervisor is SUSPENDED"),
        (
            replace(WELL, runs=(Run("penstock.clicks", "r", "failed"),)),
            "warning",
            "the last run of penstock.clicks failed",
        ),
        (replace(WELL, problems={"Druid": "does not answer"}), "bad", "Druid: does not answer"),
    ],
)
def test_what_deserves_attention(vitals: Vitals, level: str, words: str) -> None:
    [(found, text)] = attention(vitals)
    assert found == level
    assert words in text
    assert text in page(vitals)


@pytest.mark.parametrize(
    "vitals",
    [
        changed(checkpoints=Checkpoints(completed_at=NOW - 59_000)),
        replace(WELL, interval=600_000, job=replace(WELL.job, checkpoints=Checkpoints(completed_at=NOW - 5_000_000))),  # type: ignore[type-var]
        replace(WELL, partitions=(Partition(3, end=750, position=0, watermark=MARK),)),
        replace(WELL, partitions=(Partition(0, 5, 5, MARK), Partition(1, 5, 5, MARK - 60_000))),
        replace(WELL, partitions=(Partition(0, 5, 5, MARK), Partition(1, 5, 5, MARK - 90_000)), disorder=90_000),
        replace(WELL, partitions=(Partition(0, 5, 5, MARK), Partition(1, 5, 5, MARK - 90_000, idle=True))),
        changed(tasks=(Task("sink", busy=0.9, backpressured=0.5),)),
    ],
)
def test_what_is_just_well(vitals: Vitals) -> None:
    assert attention(vitals) == []


def test_the_worst_comes_first() -> None:
    both = replace(WELL, runs=(Run("d", "r", "failed"),), problems={"Kafka": "is away"})
    assert [level for level, _ in attention(both)] == ["bad", "warning"]


def test_no_watermark_before_every_partition_has_one() -> None:
    assert watermark(replace(WELL, partitions=(Partition(0, 5, 5, MARK), Partition(1, 5, 5)))) is None
    assert watermark(replace(WELL, partitions=())) is None


def test_where_all_are_idle_it_stands_where_the_last_left_it() -> None:
    idle = tuple(replace(item, idle=True) for item in WELL.partitions)
    assert watermark(replace(WELL, partitions=idle)) == MARK + 400
    assert "2025-06-15 15:06:35 idle" in page(replace(WELL, partitions=idle))


def test_nothing_at_all_can_be_shown_too() -> None:
    gone = Vitals("clicks", NOW, problems={"Flink": "down", "Kafka": "down", "Druid": "down"})
    assert "clicks: no job" in page(gone)
    assert [text for _, text in attention(gone)] == ["Flink: down", "Kafka: down", "Druid: down"]


def test_as_json_it_holds_the_raw_figures() -> None:
    data = json.loads(json.dumps(to_json(replace(WELL, runs=(Run("d", "r", "failed"),)))))
    assert data["watermark"] == MARK
    assert [item["lag"] for item in data["partitions"]] == [0, 5, None]
    assert data["job"]["records"]["late"] == 7
    assert data["attention"] == [{"level": "warning", "text": "the last run of d failed"}]


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (4_200, "4.2 s"),
        (200_000, "3 min 20 s"),
        (7_200_000, "2 h"),
        (93_600_000, "1 d 2 h"),
    ],
)
def test_durations_are_readable(ms: float, text: str) -> None:
    assert span(ms) == text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (25_588, "25.6 kB"), (3_000_000, "3.0 MB"), (2e12, "2000.0 GB")]
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert size(count) == text


def test_a_job_that_was_stopped_by_hand_is_no_alarm() -> None:
    told = page(replace(WELL, job=None, stopped=True))
    assert told.startswith("clicks: stopped\n  stopped by hand: `penstock start clicks` resumes it")
    assert page(replace(WELL, job=None)).startswith("clicks: no job\n  no job runs: `penstock plan` says why")
