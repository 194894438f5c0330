"""One change at a time: a file lock for each environment, and who holds it; and one for each replay."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from penstock.errors import BusyError, PenstockError
from penstock.settings import Settings


def lock_file(settings: Settings) -> Path:
    return settings.home / "locks" / f"{settings.env.name}.lock"


@contextmanager
def environment_lock(settings: Settings, verb: str) -> Iterator[None]:
    """Hold the environment's lock; the operating system frees it when the process ends, however it ends.

    Raises BusyError at once where another process holds it, saying which.  It holds back other runs from this
    project's directory; two directories that share an environment are kept apart by Flink's refusal of a known job id.
    """
    from filelock import FileLock, Timeout

    file = lock_file(settings)
    holder = file.with_suffix(".json")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=0)
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{settings.env.name} is being changed by {_held_by(holder)}", hint="wait for it to end, then try again"
        ) from None
    except OSError as error:
        raise PenstockError(f"{file}: the lock can't be taken: {error.strerror or error}") from None
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder.write_text(json.dumps({"pid": os.getpid(), "since": since, "verb": verb}), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _held_by(holder: Path) -> str:
    try:
        held = json.loads(holder.read_text(encoding="utf-8"))
        return f"`penstock {held['verb']}`, process {held['pid']}, since {held['since']}"
    except (OSError, ValueError, KeyError):  # it has just taken the lock, or is letting go
        return "another process"


@contextmanager
def only_one(settings: Settings, replay: str) -> Iterator[None]:
    """Let one process of this project run a replay; the operating system frees the lock however that ends.

    The file goes when the replay has ended without an error: its record, not the lock, tells from then on.
    """
    from filelock import FileLock, Timeout

    file = settings.home / "locks" / f"{settings.env.name}.replay.{replay}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(file, timeout=0):
            yield
            file.unlink(missing_ok=True)
    except Timeout:
        raise BusyError(f"replay {replay} is being run by another process", hint="wait for it to end") from None
