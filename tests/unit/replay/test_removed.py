"""What becomes of replays whose pipeline is taken away: unfinished ones end, receipts heal nothing of a later life."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from penstock.errors import BusyError
from penstock.lifecycle import Outcome, remove
from penstock.lock import only_one
from penstock.pipeline import Pipeline
from penstock.proof import healings
from penstock.replay.render import verdict
from penstock.replay.repair import look
from penstock.replay.run import abandon
from penstock.services.flink import local

from ..memory import Crash, Fault, topic
from .test_launch import CHANGED, PASSED, upgrade
from .world import HOUR, RAW, TUMBLE, Life, lived


def gone(life: Life, *, rows: bool = True, topics: bool = True) -> Outcome:
    name = life.pipeline.name
    flags = {"delete_topics": topics, "drop_datasource": rows}
    return remove(name, life.services(), life.settings, timeout=0.2, **flags)


def given_up(life: Life, name: str, *, undeclared: bool = False) -> str:
    replay = life.replays.read()[name]
    declared = None if undeclared else life.pipeline
    return abandon(declared, replay, life.services(), life.settings, timeout=0.2).status


def files(life: Life) -> list[Path]:
    folder = local(f"{life.settings.env.flink.state}/replays/test")
    assert folder is not None
    return [item for item in folder.rglob("*") if item.is_file()]


def running(life: Life) -> list[str]:
    return [job.name for job in life.flink.jobs() if job.live]


@pytest.mark.parametrize("topics", [True, False])
def test_a_receipt_heals_nothing_once_its_rows_are_dropped(topics: bool, tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.replay()
    assert look(TUMBLE, life.services()).healed == 2
    outcome = gone(life, topics=topics)
    assert "1 receipts count no more: the rows that they tell of are dropped" in outcome.lines
    life.apply([TUMBLE])
    life.arrive(4_000, id="c", partition=1)
    life.live()
    (receipt,) = life.replays.read().values()
    assert (receipt.status, receipt.figures.read) == ("removed", 8), "what was done is still told"
    assert "published; its rows were dropped with the pipeline since" in verdict(receipt)
    todo = look(TUMBLE, life.services())
    assert (todo.late > 0, todo.healed) == (True, 0)
    assert healings(TUMBLE, life.replays.read().values()) == []
    life.replay(id="r2")
    assert look(TUMBLE, life.services()).ready == []


def test_receipts_of_rows_that_are_kept_count_on(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.replay()
    gone(life, rows=False, topics=False)
    assert [it.status for it in life.replays.read().values()] == ["done"]
    life.apply([TUMBLE])
    assert look(TUMBLE, life.services()).healed == 2


def test_a_receipt_of_another_source_topic_heals_nothing(tmp_path: Path) -> None:
    """Its cut is in the offsets of the topic that was read then."""
    life = lived(tmp_path)
    receipt = life.replay()
    assert receipt.published(TUMBLE)
    moved = replace(TUMBLE, source=replace(topic(partitions=2), name="shop.returned.v1"))
    assert not receipt.published(moved)


@pytest.mark.parametrize("made", [TUMBLE, RAW], ids=lambda it: it.name)
def test_a_replay_that_died_anywhere_ends_with_its_pipeline(made: Pipeline, tmp_path: Path) -> None:
    life, counter = lived(tmp_path / "whole", made), Fault()
    life.replay(fault=counter)
    for at in range(2, len(counter.calls) + 1):
        life = lived(tmp_path / str(at), made)
        with pytest.raises(Crash):
            life.replay(fault=Fault(at))
        gone(life)
        assert [it.status for it in life.replays.read().values()] == ["abandoned"]
        assert (running(life), files(life)) == ([], [])
        assert not gone(life, rows=False, topics=False).changed
        life.apply([made])
        assert running(life) == [f"penstock.{made.name}"]


@pytest.mark.parametrize("name", ["windowed", "pass-through"])
def test_an_upgrade_that_died_anywhere_ends_with_its_pipeline(name: str, tmp_path: Path) -> None:
    old, new = (TUMBLE, CHANGED) if name == "windowed" else (RAW, PASSED)
    life, counter = lived(tmp_path / "whole", old), Fault()
    upgrade(life, new, fault=counter)
    for at in range(2, len(counter.calls) + 1):
        life = lived(tmp_path / str(at), old)
        with pytest.raises(Crash):
            upgrade(life, new, fault=Fault(at))
        gone(life)
        assert [it.status for it in life.replays.read().values()] == ["abandoned"]
        assert (running(life), files(life)) == ([], [])
        assert [it for it in life.kafka._states if it.startswith(f"penstock.{old.name}")] == []
        life.apply([new])
        assert running(life) == [f"penstock.{new.name}"]


def test_while_a_replay_is_being_run_nothing_is_taken_away(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(Crash):
        life.replay(fault=Fault(4))
    before = life.state()
    with only_one(life.settings, "r1"), pytest.raises(BusyError, match="r1 is being run by another process"):
        gone(life)
    assert life.state() == before


def test_a_removal_that_keeps_the_rows_says_what_is_unfinished(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(Crash):
        life.replay(fault=Fault(4))
    assert "unfinished: `penstock replays --abandon r1` gives it up" in gone(life, rows=False, topics=False).lines
    assert life.replays.read()["r1"].status == "running"


@pytest.mark.parametrize("name", ["windowed", "pass-through"])
@pytest.mark.parametrize("removed", [False, True])
def test_what_is_no_longer_declared_can_be_given_up(name: str, removed: bool, tmp_path: Path) -> None:
    old = TUMBLE if name == "windowed" else RAW
    life, counter = lived(tmp_path / "whole", old), Fault()
    life.replay(fault=counter)
    for at in range(2, counter.calls.index("submit_task") + 1):
        life = lived(tmp_path / str(at), old)
        with pytest.raises(Crash):
            life.replay(fault=Fault(at))
        if removed:
            gone(life, rows=False)
        assert given_up(life, "r1", undeclared=True) == "abandoned"
        assert files(life) == []
        assert running(life) == ([] if removed else [f"penstock.{old.name}"])


def test_a_first_start_that_is_no_longer_declared_can_be_given_up(tmp_path: Path) -> None:
    """The registry knows nothing of it."""
    life = Life(tmp_path, RAW)
    life.arrive(1_000, 61_000, HOUR + 80_000)
    life.arrive(30 * 60_000, HOUR + 90_000, partition=1)
    life.live()
    with pytest.raises(Crash):
        upgrade(life, TUMBLE, fault=Fault(8))
    assert "penstock.sales" in running(life)
    assert given_up(life, "u1", undeclared=True) == "abandoned"
    assert (running(life), files(life)) == (["penstock.sales_raw"], [])
    assert not life.kafka.topics(["penstock.sales.out", "penstock.sales.late", "penstock.sales.dlq"])


def test_an_upgrade_whose_change_was_taken_back_leaves_no_job_behind(tmp_path: Path) -> None:
    life, counter = lived(tmp_path / "whole"), Fault()
    upgrade(life, CHANGED, fault=counter)
    life = lived(tmp_path / "it")
    with pytest.raises(Crash):
        upgrade(life, CHANGED, fault=Fault(counter.calls.index("submit_batch") + 1))
    assert "penstock.sales.1" in running(life)
    life.pipeline = TUMBLE
    assert given_up(life, "u1") == "abandoned"
    assert running(life) == ["penstock.sales"]
