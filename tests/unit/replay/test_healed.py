"""The ledger after replays: late events that they counted are in Druid, and only those."""

from __future__ import annotations

import pytest

from penstock.reconcile import Healing

from ..test_reconcile import SELECTED, Tables, windowed
from .test_plan import _replay
from .world import HOUR, RAW, TUMBLE

#: The late event: partition 0, offset 2, of the window at 0 with id a: 100.
BEFORE, AFTER = {0: 2, 1: 9, 2: 9}, {0: 3, 1: 9, 2: 9}
#: What a replay that counts it leaves in Druid.
HEAL = "UPDATE served SET total = 103, _rows = 3 WHERE window_start = 0 AND id = 'a'"


def test_a_healed_event_is_in_druid_and_not_in_the_result_topic() -> None:
    ledger = Tables(windowed()).spoil(HEAL).ledger(healings=[Healing(0, HOUR, AFTER)])
    assert ledger.equal, ledger.differences
    first = ledger.segments[0]
    assert (first.late, first.healed, first.counted, first.druid) == (1, 1, 4, 5)
    assert ledger.late == 1


@pytest.mark.parametrize(
    "healings",
    [
        [],
        [Healing(0, HOUR, BEFORE)],
        [Healing(HOUR, 2 * HOUR, AFTER)],
        [Healing(0, HOUR, AFTER), Healing(0, HOUR, BEFORE)],
    ],
    ids=["no replay", "cut before it", "another range", "replaced by one that was cut before it"],
)
def test_what_no_replay_counted_is_not_excused(healings: list[Healing]) -> None:
    assert Tables(windowed()).ledger(healings=healings).equal
    assert not Tables(windowed()).spoil(HEAL).ledger(healings=healings).equal


def test_a_replay_that_did_not_count_it_shows() -> None:
    ledger = Tables(windowed()).ledger(healings=[Healing(0, HOUR, AFTER)])
    assert not ledger.equal
    assert any("total 3 instead of 103" in line for line in ledger.differences)


def test_what_is_too_early_is_never_healed() -> None:
    def early() -> Tables:
        dated = 'UPDATE log SET "timestamp" = -9000000 WHERE partition = 0 AND "offset" = 2'
        return Tables(windowed()).spoil(dated).spoil("UPDATE rejected SET reason = 'too early' WHERE branch = 'late'")

    assert early().ledger(healings=[Healing(0, HOUR, AFTER)]).equal
    assert not early().spoil(HEAL).ledger(healings=[Healing(0, HOUR, AFTER)]).equal


def test_a_pass_through_pipeline_has_nothing_to_heal() -> None:
    assert Tables(SELECTED).ledger().equal


def test_published_replays_of_windowed_pipelines_heal() -> None:
    from dataclasses import replace

    from penstock.proof import healings
    from penstock.replay.record import Cut

    done = replace(_replay(), status="done", cut=Cut({0: 0}, {0: 5}))
    others = [replace(done, status="abandoned"), replace(done, pipeline="other"), replace(done, status="dry")]
    assert healings(TUMBLE, [done, *others]) == [Healing(0, HOUR, {0: 5})]
    assert healings(RAW, [replace(done, pipeline=RAW.name)]) == []
