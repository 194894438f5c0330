"""What a receipt says has changed."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console

from penstock.replay.record import Asked, Count, Figures, Replay, Sum, from_bytes, to_bytes
from penstock.replay.render import changed_sums, receipt

DRY = Replay(
    "an-id",
    "clicks",
    "v1",
    Asked(0, 1, 0, 1, dry_run=True),
    status="dry",
    figures=Figures(
        before={0: Count(2, 5)},
        computed={0: Count(2, 5)},
        sums={"price": Sum(10.0, 12.5), "clicks": Sum(5, 5), "slowest": Sum(None, 900), "gone": Sum(None, None)},
    ),
)


def shown(replay: Replay) -> list[str]:
    console = Console(file=StringIO(), width=120)
    console.print(receipt(replay))
    assert isinstance(console.file, StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_a_change_that_no_count_shows_is_seen_in_the_measures() -> None:
    lines = shown(DRY)
    assert "clicks: dry run, nothing published: 0 of 1 segments would change, +0 events" in lines
    at = lines.index("measure, summed over all rows before computed change")
    assert lines[at + 1 : at + 3] == ["price 10 12.500 2.500", "slowest - 900 new"]
    assert not any(line.startswith(("clicks 5", "gone")) for line in lines)


def test_sums_of_doubles_may_be_apart_a_little() -> None:
    near = {"price": Sum(0.1 + 0.2, 0.3), "clicks": Sum(10**12, 10**12 + 1_000_000)}
    replay = replace(DRY, figures=replace(DRY.figures, sums=near))
    assert [name for name, _ in changed_sums(replay)] == ["clicks"]


def test_sums_are_read_back() -> None:
    assert from_bytes(to_bytes(DRY)) == DRY


def test_seconds_are_told_in_the_order_of_the_steps() -> None:
    replay = from_bytes(to_bytes(replace(DRY, done=("cut", "compute"), seconds={"cut": 0.1, "compute": 2.0})))
    assert "cut 0.1 s, compute 2.0 s" in shown(replay)
