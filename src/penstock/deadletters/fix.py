"""The user's function that mends a dead letter: `fix(letter) -> bytes | dict | None`."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from penstock.deadletters.letters import Letter
from penstock.errors import DeclarationError
from penstock.load import mistake

_EXAMPLE = "for example --fix fixes.py:mend, with def mend(letter): return bytes, a dict, or None to leave it dead"


class FixError(Exception):
    """A fix failed for one letter, in words: file:line and error."""


@dataclass(frozen=True)
class Fix:
    """A function, the file it is in, and its name as it was given."""

    name: str
    file: Path
    function: Callable[[Letter], Any]

    def __call__(self, letter: Letter) -> bytes | None:
        """Return the mended value, None where the letter is to stay dead.  Raises FixError, whatever the fix raises."""
        try:
            found = self.function(letter)
            if isinstance(found, dict):
                return json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (Exception, SystemExit) as error:
            raise FixError(mistake(self.file, error)) from None
        if found is None or isinstance(found, bytes):
            return found
        raise FixError(f"{self.name} returned {type(found).__name__}: it returns bytes, a dict or None")


def load_fix(name: str, root: Path) -> Fix:
    """Import `PATH.py:FUNCTION`, or `MODULE:FUNCTION` of the folder `root` or installed.  Raises DeclarationError."""
    place, _, function = name.rpartition(":")
    if not place or not function.isidentifier():
        raise DeclarationError(f"--fix {name!r}: it is PATH.py:FUNCTION or MODULE:FUNCTION", hint=_EXAMPLE)
    file = Path(place)
    if place.endswith(".py") and not file.is_file():
        raise DeclarationError(f"--fix {name}: there is no file {file.absolute()}", hint=_EXAMPLE)
    try:
        module = _run(file) if place.endswith(".py") else _import(place, root)
    except (Exception, SystemExit) as error:
        raise DeclarationError(f"--fix {name}: {mistake(file.absolute(), error)}") from None
    found = getattr(module, function, None)
    if not callable(found):
        raise DeclarationError(f"--fix {name}: {place} has no function {function!r}", hint=_EXAMPLE)
    return Fix(name, Path(module.__file__ or place).absolute(), found)


def _run(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"penstock_fixes.{file.stem}", file.absolute())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _importing_from(file.absolute().parent):
        spec.loader.exec_module(module)
    return module


def _import(module: str, root: Path) -> ModuleType:
    with _importing_from(root):
        return importlib.import_module(module)


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
