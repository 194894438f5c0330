"""Waiting as an object: subject, deadline, the last state seen, a hint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, TypeVar

from penstock.errors import UnavailableError, WaitTimeoutError

T = TypeVar("T")

#: Seconds between two lines of progress where there is no terminal.
LINES_EVERY = 2.0


class Progress(Protocol):
    """Where a wait shows what it waits for: `update(text)` is called with each new state."""

    def update(self, text: str) -> None: ...


class Silent:
    """The progress that shows nothing."""

    def update(self, text: str) -> None:
        pass


@dataclass(frozen=True)
class Pending:
    """A probe's answer "not yet", with the state seen, in words."""

    state: str


class Yielded(BaseException):
    """A wait gave up its place, by `yielding`: whatever waited is to be run again later, as if it had been killed.

    No handler of ordinary errors runs; what can be killed at any line can yield at any wait.
    """

    def __init__(self, subject: str, state: str) -> None:
        super().__init__(f"{subject}: {state}")
        self.subject = subject
        self.state = state


_place: ContextVar[tuple[float, float] | None] = ContextVar("place", default=None)


@contextmanager
def yielding(seconds: float, *, within: float = math.inf) -> Iterator[None]:
    """Let each wait raise `Yielded` that has lasted so many seconds, and all of them once `within` seconds are over."""
    token = _place.set((seconds, time.monotonic() + within))
    try:
        yield
    finally:
        _place.reset(token)


@contextmanager
def rich_progress(title: str) -> Iterator[Progress]:
    """Show a spinner with the state waited for and the elapsed time on stderr; plain lines where it is no terminal."""
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True)
    started = time.monotonic()
    if not console.is_terminal:

        class Lines:
            last, shown = "", -LINES_EVERY

            def update(self, text: str) -> None:
                now = time.monotonic() - started
                if text != self.last and now - self.shown >= LINES_EVERY:
                    self.last, self.shown = text, now
                    console.print(f"{title}: {text} ({now:.0f} s)", highlight=False)

        yield Lines()
        return
    with console.status(title) as status:

        class Spinner:
            def update(self, text: str) -> None:
                status.update(f"{title}: {text} [dim]({time.monotonic() - started:.0f} s)[/dim]")

        yield Spinner()


def until(
    subject: str,
    probe: Callable[[], T | Pending],
    *,
    timeout: float,
    hint: str | None = None,
    interval: float = 0.25,
    progress: Progress | None = None,
    patient: bool = False,
) -> T:
    """Call `probe` until it answers something other than `Pending`, and return that.

    `subject` names what is awaited ("Druid's broker"), `timeout` and `interval` are seconds; a `patient` wait ends only
    when the state has not changed for the timeout.  A probe that raises `UnavailableError` counts as not yet.  Raises
    `WaitTimeoutError` with the last state seen when the deadline passes, `Yielded` within `yielding`.
    """
    started = time.monotonic()
    deadline = started + timeout
    seconds, end = _place.get() or (math.inf, math.inf)
    show = progress or Silent()
    last = ""
    while True:
        try:
            answer = probe()
        except UnavailableError as error:
            answer = Pending(error.message)
        if not isinstance(answer, Pending):
            return answer
        show.update(f"{subject}: {answer.state}")
        if patient and answer.state != last:
            deadline, last = time.monotonic() + timeout, answer.state
        if time.monotonic() >= deadline:
            raise WaitTimeoutError(f"{subject}: not there after {timeout:g} s; last seen: {answer.state}", hint=hint)
        if time.monotonic() >= min(started + seconds, end):
            raise Yielded(subject, answer.state)
        time.sleep(interval)
