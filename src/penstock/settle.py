"""When a job has worked off the log up to a cut, and its topics hold nothing that is open: probes to wait with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import pyarrow as pa

from penstock.wait import Pending

Offsets = Mapping[int, int]


class Log(Protocol):
    """What the probes need of Kafka (`penstock.services.kafka`)."""

    def start_offsets(self, topic: str) -> dict[int, int]: ...
    def end_offsets(self, topic: str, *, committed: bool) -> dict[int, int]: ...
    def group_offsets(self, group: str, topic: str) -> dict[int, int]: ...
    def read_arrow(
        self, topic: str, start: Offsets, end: Offsets, *, committed: bool = True
    ) -> Iterable[pa.RecordBatch]: ...


def worked_off(log: Log, group: str, topic: str, cut: Offsets) -> Callable[[], Pending | bool]:
    """Return a probe for the group having committed all records of the topic before the cut.

    Group offsets may lag behind the job's checkpoint but never lead it, so reaching the cut is proof enough.
    """
    before: list[dict[int, int]] = []

    def probe() -> Pending | bool:
        done = log.group_offsets(group, topic)
        left = {partition: done.get(partition, 0) for partition, end in cut.items() if done.get(partition, 0) < end}
        # A job commits what it has read; behind that, only markers of transactions and expired records may follow.
        if not left or (left in before and not _holds_records(log, topic, left, cut)):
            return True
        before[:] = [left]
        return Pending(f"{sum(cut[partition] - at for partition, at in left.items()):,} records behind the log")

    return probe


def _holds_records(log: Log, topic: str, start: Offsets, end: Offsets) -> bool:
    """Say whether there is a committed record between the offsets."""
    first = log.start_offsets(topic)
    low = {partition: max(at, first[partition]) for partition, at in start.items()}
    low = {partition: at for partition, at in low.items() if at < end[partition]}
    batches = log.read_arrow(topic, low, {partition: end[partition] for partition in low})
    return any(batch.num_rows for batch in batches) if low else False


def transactions_ended(log: Log, topic: str) -> Callable[[], Pending | bool]:
    """Return a probe for every transaction that is in the topic by now being committed or aborted."""
    written = log.end_offsets(topic, committed=False)

    def probe() -> Pending | bool:
        stable = log.end_offsets(topic, committed=True)
        held = sum(max(0, end - stable[partition]) for partition, end in written.items())
        return Pending(f"{held:,} records in open transactions") if held else True

    return probe


#: What to do where `transactions_ended` never holds.
OPEN_HINT = "a killed job may have left a transaction open: `penstock doctor` finds it"
