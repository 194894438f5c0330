"""Which stack a test session takes: the one asked for, else containers where they can be had, else the native one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from penstock.errors import DeclarationError
from penstock.settings import Settings
from penstock.testing.containers import available, containers_stack, override
from penstock.testing.engine import NoEngineError
from penstock.testing.native import native_stack

Wanted = Literal["auto", "containers", "native"]

#: The options' environment variables.
STACK, COMPOSE = "PENSTOCK_TEST_STACK", "PENSTOCK_TEST_COMPOSE"


@dataclass(frozen=True)
class Choice:
    """`overrides` are files of compose over the shipped one."""

    kind: Literal["containers", "native"]
    why: str
    overrides: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} stack: {self.why}"

    @contextmanager
    def stack(self, root: Path, scratch: Path) -> Iterator[Settings]:
        """Start it for the project in `root`, and yield the settings of a project on it; it is gone at the end."""
        taken = containers_stack(root, scratch, self.overrides) if self.kind == "containers" else None
        with taken or native_stack(root, scratch) as settings:
            yield settings


def choose(
    root: Path, wanted: str | None = None, compose: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Choice:
    """Decide by the options, else by the environment, else by what the engine says, in seconds.

    Raises NoEngineError where containers are asked for and can't be had.
    """
    environ = os.environ if environ is None else environ
    wanted = wanted or environ.get(STACK) or "auto"
    if wanted not in get_args(Wanted):
        raise DeclarationError(f"{STACK}: no stack {wanted!r}; there are: {', '.join(get_args(Wanted))}")
    if wanted == "native":
        return Choice("native", "as asked")
    names = compose or [name for name in environ.get(COMPOSE, "").split(os.pathsep) if name]
    overrides = tuple(override(name, root) for name in names)
    try:
        return Choice("containers", available(overrides), overrides)
    except NoEngineError as error:
        if wanted == "containers":
            raise
        return Choice("native", error.message + (f" ({error.hint})" if error.hint else ""))
