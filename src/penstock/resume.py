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
    if record.savepoint is not None and record.status in ("stopped", "removed"):
        return Resumption(record.savepoint, f"{record.status} before")
    # One that an upgrade noted as the job's last, and died, comes second: what is there may be newer.
    state = point.path or record.savepoint
    if state is not None:
        return Resumption(state, "it ended")
    if not record.job_id or point.never or (record.status == "starting" and not point.unseen):
        # Without a checkpoint nothing was committed, so the same start repeats nothing.
        return Resumption(record.restore, "nothing was computed yet")
    return None
