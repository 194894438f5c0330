"""Is a state older than a replay's checkpoint?  A job that goes on from it fires windows of the replayed range again.

A receipt names a checkpoint that holds its windows as fired, and whose it is.  Flink numbers checkpoints upwards, over
restores too, but from 1 again where a job begins without state: so only what belongs to the receipt's job is compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from penstock.flink.savepoint import checkpoint_id
from penstock.replay.record import Replay
from penstock.replay.scope import utc
from penstock.services.registry import Record


def receipts(replays: Iterable[Replay], record: Record) -> tuple[Replay, ...]:
    """Return the replays of a pipeline's deployed generation that have replaced what was there."""
    generation = record.launch.get("generation", 0)
    wanted = (record.pipeline, generation, "done")
    return tuple(it for it in replays if (it.pipeline, it.generation, it.status) == wanted)


def numbers(paths: Iterable[str | None]) -> dict[str, int]:
    """Return the checkpoints' numbers, of those states that tell it."""
    found = {path: checkpoint_id(path) for path in paths if path is not None}
    return {path: number for path, number in found.items() if number is not None}


def newer(path: str, record: Record, done: Sequence[Replay], known: Mapping[str, int]) -> tuple[Replay, ...]:
    """Return the replays that were built on a newer state than `path`, which the recorded job would go on from."""
    return tuple(it for it in done if _older(path.rstrip("/"), record, it, known.get(path)))


def _older(path: str, record: Record, replay: Replay, number: int | None) -> bool:
    cut = replay.cut
    if cut is None or not cut.job_id:
        return False
    if not _of(path, cut.job_id):
        # The job of the receipt is the one that ended: what is not its own is what it began from.
        return record.job_id == cut.job_id
    if cut.savepoint is not None:  # with it the job ended: whatever else it left is older
        return path != cut.savepoint.rstrip("/")
    # A state that does not tell its number is a savepoint: the last that its job left.
    checkpoint = replay.settled.checkpoint if replay.settled else None
    return number is not None and checkpoint is not None and number < checkpoint


def _of(path: str, job_id: str) -> bool:
    """True where a state is that job's, as Flink names its directory."""
    folder, _, name = path.rpartition("/")
    return folder.endswith(f"/{job_id}") or name.startswith(f"savepoint-{job_id[:6]}-")


def ranges(replays: Iterable[Replay]) -> str:
    """Say what was replayed: "X (2024-01-01T00:00Z to 2024-01-01T02:00Z)"."""
    return ", ".join(f"{it.id} ({utc(it.asked.wide_start)} to {utc(it.asked.wide_end)})" for it in replays)
