"""The ledger after replays: late events that they counted are in Druid, and only those."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from penstock import Datasource, Pipeline, Select
from penstock.healing import Healing
from penstock.proof import healings
from penstock.replay.record import Count, Cut, Figures, Settled

from ..test_reconcile import SELECTED, TOPIC, Tables, windowed
from .test_plan import _replay
from .world import HOUR, RAW, TUMBLE

#: The late event: partition 0, offset 2, of the window at 0 with id a: 100.
BEFORE, AFTER = {0: 2, 1: 9, 2: 9}, {0: 3, 1: 9, 2: 9}
#: The end of the result topic when the replays settled.
OUT = {0: 9}
#: What a replay that counts it leaves in Druid.
HEAL = "UPDATE served SET total = 103, _rows = 3 WHERE window_start = 0 AND id = 'a'"


def test_a_healed_event_is_in_druid_and_not_in_the_result_topic() -> None:
    ledger = Tables(windowed()).spoil(HEAL).ledger(healings=[Healing(0, HOUR, AFTER, OUT)])
    assert ledger.equal, ledger.differences
    first = ledger.segments[0]
    assert (first.late, first.healed, first.counted, first.druid) == (1, 1, 4, 5)
    assert ledger.late == 1


@pytest.mark.parametrize(
    "healings",
    [
        [],
        [Healing(0, HOUR, BEFORE, OUT)],
        [Healing(HOUR, 2 * HOUR, AFTER, OUT)],
        [Healing(0, HOUR, AFTER, OUT), Healing(0, HOUR, BEFORE, OUT)],
    ],
    ids=["no replay", "cut before it", "another range", "replaced by one that was cut before it"],
)
def test_what_no_replay_counted_is_not_excused(healings: list[Healing]) -> None:
    assert Tables(windowed()).ledger(healings=healings).equal
    assert not Tables(windowed()).spoil(HEAL).ledger(healings=healings).equal


def test_a_replay_that_did_not_count_it_shows() -> None:
    ledger = Tables(windowed()).ledger(healings=[Healing(0, HOUR, AFTER, OUT)])
    assert not ledger.equal
    assert any("total 3 instead of 103" in line for line in ledger.differences)


def test_what_is_too_early_is_never_healed() -> None:
    def early() -> Tables:
        dated = 'UPDATE log SET "timestamp" = -9000000 WHERE partition = 0 AND "offset" = 2'
        return Tables(windowed()).spoil(dated).spoil("UPDATE rejected SET reason = 'too early' WHERE branch = 'late'")

    assert early().ledger(healings=[Healing(0, HOUR, AFTER, OUT)]).equal
    assert not early().spoil(HEAL).ledger(healings=[Healing(0, HOUR, AFTER, OUT)]).equal


def test_a_pass_through_pipeline_has_nothing_to_heal() -> None:
    assert Tables(SELECTED).ledger().equal


def test_published_replays_heal() -> None:
    figures = Figures(computed={0: Count(2, 5)})
    settled = Settled(1, "there", {0: 7})
    done = replace(_replay(), status="done", cut=Cut({0: 0}, {0: 5}), settled=settled, figures=figures)
    others = [replace(done, status="abandoned"), replace(done, pipeline="other"), replace(done, status="dry")]
    assert healings(TUMBLE, [done, *others]) == [Healing(0, HOUR, {0: 5}, {0: 7}, {0: 5})]
    assert len(healings(RAW, [replace(done, pipeline=RAW.name)])) == 1


#: What the result topic of a windowed run holds, by offset: (0, a, 3), (0, b, -), (60 s, a, 8).
LOSE = "DELETE FROM result WHERE window_start = 0 AND id = 'b'"
DOUBLE = "INSERT INTO result SELECT * FROM result WHERE window_start = 0 AND id = 'a'"
WRONG = "UPDATE result SET total = 4 WHERE window_start = 0 AND id = 'a'"
REPLAYED = [Healing(0, HOUR, AFTER, OUT)]


@pytest.mark.parametrize(
    ("damage", "made_good", "note"),
    [
        (LOSE, 1, "1 rows (1 events are missing, 0 repeated)"),
        (DOUBLE, -2, "1 rows (0 events are missing, 2 repeated)"),
        (WRONG, 0, "1 rows (other figures)"),
    ],
    ids=["lost", "doubled", "wrong"],
)
def test_what_the_result_topic_got_wrong_before_a_replay_is_told_and_made_good(
    damage: str, made_good: int, note: str
) -> None:
    unhealed = Tables(windowed()).spoil(damage).ledger()
    assert not unhealed.equal
    assert unhealed.segments[0].shortfall == made_good
    ledger = Tables(windowed()).spoil(damage).spoil(HEAL).ledger(healings=REPLAYED)
    assert ledger.equal, ledger.differences
    first = ledger.segments[0]
    assert (first.made_good, first.shortfall, first.druid) == (made_good, 0, 5)
    assert any(note in line and "made good by replays" in line for line in ledger.notes), ledger.notes


@pytest.mark.parametrize("damage", [LOSE, DOUBLE, WRONG], ids=["lost", "doubled", "wrong"])
@pytest.mark.parametrize(
    "healings",
    [[], [Healing(HOUR, 2 * HOUR, AFTER, OUT)], [Healing(0, HOUR, AFTER, {})]],
    ids=["no replay", "of another segment", "whose result topic ended before"],
)
def test_without_its_replay_it_is_a_failure(damage: str, healings: list[Healing]) -> None:
    tables = Tables(windowed()).spoil(damage)
    if healings and not healings[0].start:
        tables.spoil(HEAL)
    ledger = tables.ledger(healings=healings)
    assert not ledger.segments[0].equal
    assert ledger.differences


@pytest.mark.parametrize("damage", [LOSE, DOUBLE, WRONG], ids=["lost", "doubled", "wrong"])
def test_druid_is_never_excused(damage: str) -> None:
    """The replay must have put right what the result topic got wrong: Druid as it was before is a failure."""
    in_druid = damage.replace("result", "served")
    ledger = Tables(windowed()).spoil(damage).spoil(HEAL).spoil(in_druid).ledger(healings=REPLAYED)
    assert not ledger.equal
    assert all("Druid" in line for line in ledger.differences), ledger.differences


def test_a_row_lost_after_the_cut_is_named() -> None:
    """It is neither late nor counted, and no replay has seen it."""
    lost = json.dumps({"id": "b", "value": 1, "at": 4_000}).encode()
    tables = Tables(windowed()).spoil(HEAL)
    tables.connection.execute("INSERT INTO log VALUES (0, 4, 9000000, ?)", [lost])
    cut = {0: 4, 1: 9, 2: 9}
    ledger = tables.ledger(healings=[Healing(0, HOUR, cut, OUT)])
    assert (ledger.segments[0].shortfall, ledger.segments[0].made_good) == (1, 0)
    assert any("_rows 1 instead of 2" in line for line in ledger.differences), ledger.differences
    # The next replay, cut after it, counts it.
    counted = "UPDATE served SET total = 1, _rows = 2 WHERE window_start = 0 AND id = 'b'"
    ledger = tables.spoil(counted).ledger(healings=[Healing(0, HOUR, cut, OUT), Healing(0, HOUR, {**cut, 0: 5}, OUT)])
    assert ledger.equal, ledger.differences
    assert ledger.segments[0].made_good == 1


def test_a_row_lost_in_a_partition_that_the_cut_does_not_know_is_named() -> None:
    lost = json.dumps({"id": "c", "value": 1, "at": 4_000}).encode()
    tables = Tables(windowed()).spoil(HEAL)
    tables.connection.execute("INSERT INTO log VALUES (3, 0, 9000000, ?)", [lost])
    ledger = tables.ledger(healings=REPLAYED)
    assert any("id=c: missing in Druid" in line for line in ledger.differences), ledger.differences


def test_a_window_that_fires_again_after_a_replay_is_named() -> None:
    again = "INSERT INTO result SELECT * REPLACE (9 AS _out_offset) FROM result WHERE window_start = 0 AND id = 'a'"
    ledger = Tables(windowed()).spoil(HEAL).spoil(again).ledger(healings=REPLAYED)
    assert ledger.segments[0].shortfall == -2
    assert any("in the result topic as" in line for line in ledger.differences), ledger.differences


# Without windows a replay computes what is before its cut, and the live job goes on from there.

PLAIN = Pipeline("sales_raw", TOPIC, Select(), Datasource(segment="hour"))
#: Cut between 3 and 5 s, in the source and in the result topic, whose rows are those of 1, 2, 3, 5, 61 and 3,700 s.
CUT = [Healing(0, HOUR, {0: 2, 1: 1, 2: 1}, {0: 3})]


@pytest.mark.parametrize("pipeline", [PLAIN, SELECTED], ids=["plain", "rolled up"])
@pytest.mark.parametrize(
    ("damage", "made_good"),
    [
        ('DELETE FROM result WHERE "at" = 2000', 1),
        ('INSERT INTO result SELECT * FROM result WHERE "at" = 2000', -1),
        ('UPDATE result SET value = 77 WHERE "at" = 2000', 0),
    ],
    ids=["lost", "doubled", "wrong"],
)
def test_a_pass_through_pipeline_s_rows_before_the_cut_are_made_good(
    pipeline: Pipeline, damage: str, made_good: int
) -> None:
    assert Tables(pipeline).ledger(healings=CUT).equal
    assert not Tables(pipeline).spoil(damage).ledger().equal
    ledger = Tables(pipeline).spoil(damage).ledger(healings=CUT)
    assert ledger.equal, ledger.differences
    assert ledger.segments[0].made_good == made_good
    assert "made good" in ledger.notes[0]


@pytest.mark.parametrize("pipeline", [PLAIN, SELECTED], ids=["plain", "rolled up"])
@pytest.mark.parametrize(
    "damage",
    [
        'DELETE FROM result WHERE "at" = 5000',
        'INSERT INTO result SELECT * FROM result WHERE "at" = 61000',
        'INSERT INTO result SELECT * REPLACE (7 AS _out_offset) FROM result WHERE "at" = 2000',
        'UPDATE result SET value = 77 WHERE "at" = 5000',
        'DELETE FROM result WHERE "at" = 3700000',
    ],
    ids=["lost after it", "doubled after it", "repeated after it", "wrong after it", "lost in another segment"],
)
def test_a_pass_through_pipeline_s_rows_after_the_cut_are_not(pipeline: Pipeline, damage: str) -> None:
    ledger = Tables(pipeline).spoil(damage).ledger(healings=CUT)
    assert not ledger.equal
    assert any("the result topic" in line for line in ledger.differences), ledger.differences


def test_differences_are_counted_in_their_segment() -> None:
    ledger = Tables(windowed()).spoil(WRONG).spoil(LOSE).spoil("DELETE FROM served WHERE window_start = 60000").ledger()
    assert ledger.segments[0].differing == 3
    assert not ledger.segments[0].equal
    assert ledger.elsewhere == 0
    ledger = Tables(windowed()).spoil("INSERT INTO rejected VALUES ('dlq', 2, 9, 'x')").ledger()
    assert (ledger.elsewhere, ledger.segments[0].equal, ledger.equal) == (1, True, False)
