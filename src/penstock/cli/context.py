"""What every verb shares: settings, pipelines by name, printing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from penstock.errors import PenstockError

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.pipeline import Pipeline
    from penstock.services.protocols import Services
    from penstock.settings import Settings


@dataclass
class Context:
    """The options before the verb; everything else is loaded when first asked for."""

    project: str | None
    env: str | None
    debug: bool

    @cached_property
    def settings(self) -> Settings:
        from penstock.settings import load_settings

        return load_settings(Path(self.project) if self.project else None, env=self.env)

    @cached_property
    def services(self) -> Services:
        from penstock.services.protocols import connect

        return connect(self.settings)

    def needs_files(self, verb: str) -> None:
        """Raise DeclarationError where this machine does not see the files that Flink and Penstock share."""
        from penstock.elsewhere import refuse_without_files

        refuse_without_files(self.settings, verb, sys.argv[1:])

    def pipelines(self, names: Sequence[str] = ()) -> list[Pipeline]:
        """Return the declared pipelines, or those named; a name that is not declared is a mistake."""
        from penstock.load import named

        return named(self.settings.jobs, names)

    def deployed(self, names: Sequence[str]) -> list[Pipeline]:
        """Return the pipelines named, each of the generation that runs."""
        from penstock.generation import deployed

        records = self.services.registry.read()
        return [deployed(pipeline, records.get(pipeline.name)) for pipeline in self.pipelines(names)]


def console() -> Console:
    """Return where tables are printed: as wide as the terminal, and wide enough where there is none."""
    from rich.console import Console

    found = Console()
    return found if found.is_terminal else Console(width=max(found.width, 160))


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def fail(error: PenstockError) -> NoReturn:
    """Print an error as a user reads it, and leave with its exit code."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text(f"error: {error.message}", style="red"))
    if error.hint:
        console.print(Text(f"  {error.hint}"))
    sys.exit(error.exit_code)
