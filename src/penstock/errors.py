"""The one tree of Penstock's errors.

    PenstockError                 exit 1   something failed; the message says what and what to do
    ├── DeclarationError          exit 2   the user's declaration, settings or command line is wrong
    ├── RefusedError              exit 3   the step would lose or repeat data; a named flag or another way is given
    │   └── BusyError             exit 3   another process is at it; worth another try when that has ended
    ├── NotEqualError             exit 4   a proof failed: figures do not reconcile
    └── UnavailableError          exit 5   a service is down or slow; worth another try
        └── WaitTimeoutError      exit 5   a deadline passed; carries the last state seen

A message is: what, the value, the rule, what to do.  `hint` is the "what to do".
"""

from __future__ import annotations

from collections.abc import Sequence


class PenstockError(Exception):
    """Base of all expected failures: `exit_code` for the shell, `hint` for the reader."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class DeclarationError(PenstockError):
    """All mistakes of a declaration, a settings file or a command line, gathered."""

    exit_code = 2

    def __init__(self, problems: Sequence[str] | str, *, hint: str | None = None) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems), hint=hint)


class RefusedError(PenstockError):
    """A step that would lose or repeat data, refused by name."""

    exit_code = 3


class BusyError(RefusedError):
    """What is to be changed is being changed by another process."""


class NotEqualError(PenstockError):
    """Figures that should agree do not."""

    exit_code = 4


class UnavailableError(PenstockError):
    """A service could not be reached, or answered with a failure that may pass."""

    exit_code = 5


class NoDatasourceError(UnavailableError):
    """Druid knows no such datasource: no row was ever put into it, or not yet."""


class WaitTimeoutError(UnavailableError):
    """A deadline passed while waiting; the message holds the last state seen."""
