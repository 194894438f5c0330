"""Read the log while something else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from penstock.replay.verify import Log
from penstock.wait import Progress

#: Seconds for a reader to notice that it is to stop.
STOP_SECONDS = 5


class _Stopped(Exception):
    """The reader was told to stop."""


class Ahead:
    """A thread that reads the log; it ends with the process, and when it is told to."""

    def __init__(self, read: Callable[[Progress], Log]) -> None:
        self._read = read
        self._show = _Relay()
        self._found: Log | None = None
        self._thread = threading.Thread(target=self._run, name="read ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._found = self._read(self._show)
        except Exception:
            # Whatever it was, a broker that was away say: it is read again when it is needed, and told then.
            self._found = None

    def result(self, show: Progress) -> Log | None:
        """Wait for the log, showing how far it is; None where it could not be read."""
        self._show.to = show
        self._thread.join()
        return self._found

    def stop(self) -> None:
        """Stop reading, and forget what was read.  A reader that waits for a broker is left behind."""
        self._show.stopped = True
        self._thread.join(STOP_SECONDS)
        if self._found is not None:
            self._found.connection.close()
            self._found = None


class _Relay:
    """Shows nothing until somebody waits; each word is a chance to stop."""

    def __init__(self) -> None:
        self.to: Progress | None = None
        self.stopped = False

    def update(self, text: str) -> None:
        if self.stopped:
            raise _Stopped
        if self.to is not None:
            self.to.update(text)
