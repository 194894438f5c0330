"""What a new generation would leave behind: late events of before its range, which no replay has counted yet.

It has a late topic of its own, and `repair` reads that one.  To read those of older generations too would be no remedy:
a repair computes whole segments by the logic that runs, and these are to keep the old one.
"""

from __future__ import annotations

from penstock.generation import deployed, running
from penstock.pipeline import Pipeline
from penstock.replay.repair import plan_repair, read_late
from penstock.replay.scope import utc
from penstock.replay.steps import Refusal
from penstock.services.protocols import Services
from penstock.services.registry import Record
from penstock.topics import late_topic


def left_behind(pipeline: Pipeline, record: Record | None, since: int, services: Services) -> list[Refusal]:
    """Return what stands against an upgrade that computes the past from `since` (epoch ms) on.  Changes nothing.

    Events whose records retention has removed from the log are none: nothing could count them any more.
    """
    ran = (running(record) if record is not None else None) or deployed(pipeline, record)
    if late_topic(ran.stream) not in services.kafka.topics([late_topic(ran.stream)]):
        return []
    first = services.kafka.start_offsets(ran.source.name)
    late = [it for it in read_late(ran, services.kafka) if it.offset >= first.get(it.partition, 0)]
    todo = plan_repair(ran, late, services.replays.read().values(), None, within=(None, since))
    if todo.healed == todo.late:
        return []
    count = f"{todo.late - todo.healed:,} late events before {utc(since)}"
    ways = (
        f"--replay-from {utc(todo.spans[0].start)} counts them by the new logic",
        f"by the old one, `penstock repair {ran.name} --to {utc(since)}` does, with the declaration as it was",
        "--allow unhealed leaves them uncounted",
    )
    return [Refusal(f"{count} are not healed, and no repair would do it later", "; ".join(ways))]
