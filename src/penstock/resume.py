"""Where an ended job goes on: the newest state that it left; without one, only where it surely did nothing.  Pure.

The plan (`penstock.plan_job`) and an upgrade in place (`penstock.in_place`) go by this rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.services.flink import RestorePoint
from penstock.services.registry import Record


@dataclass(frozen=True)
class Resumption:
    """From which state a job goes on (None: from where it was to begin without one), and why, in words."""

    path: str | None
    why: str


def resumption(record: Record, point: RestorePoint) -> Resumption | None:
    """Return where the recorded job goes on, that has ended and left `point`; None where its state is lost.

    From anything older than the newest, rows would be committed again.
    """
    ended = f"{record.status} before" if record.status in ("stopped", "removed") else "it ended"
    if record.savepoint is not None:  # noted when the job had ended: nothing is newer
        return Resumption(record.savepoint, ended)
    if point.path is not None:
        return Resumption(point.path, ended)
    if not record.job_id or point.never or (record.status == "starting" and not point.unseen):
        # Without a checkpoint nothing was committed, so the same start repeats nothing.
        return Resumption(record.restore, "nothing was computed yet")
    return None
