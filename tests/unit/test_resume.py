"""Where an ended job goes on: from nothing older than the newest state that it left."""

from __future__ import annotations

import pytest

from penstock.resume import Resumption, resumption
from penstock.services.flink import RestorePoint
from penstock.services.registry import Record

NOTED, LEFT, BEGUN = "memory:/savepoints/noted", "memory:/checkpoints/chk-9", "memory:/savepoints/begun"
ENDED, NOTHING = "it ended", "nothing was computed yet"


@pytest.mark.parametrize(
    ("status", "savepoint", "point", "wanted"),
    [
        ("stopped", NOTED, RestorePoint(LEFT), Resumption(NOTED, "stopped before")),
        ("removed", NOTED, RestorePoint(), Resumption(NOTED, "removed before")),
        ("running", None, RestorePoint(LEFT), Resumption(LEFT, ENDED)),
        ("running", NOTED, RestorePoint(LEFT), Resumption(LEFT, ENDED)),
        ("running", NOTED, RestorePoint(unseen=True), Resumption(NOTED, ENDED)),
        ("running", None, RestorePoint(never=True), Resumption(BEGUN, NOTHING)),
        ("running", None, RestorePoint(), None),
        ("starting", None, RestorePoint(), Resumption(BEGUN, NOTHING)),
        ("starting", None, RestorePoint(unseen=True), None),
        ("starting", None, RestorePoint(LEFT), Resumption(LEFT, ENDED)),
    ],
)
def test_the_newest_state_wins(
    status: str, savepoint: str | None, point: RestorePoint, wanted: Resumption | None
) -> None:
    record = Record("sales", status=status, job_id="0f", savepoint=savepoint, restore=BEGUN)
    assert resumption(record, point) == wanted
