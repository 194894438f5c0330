"""`penstock init`: a repository of one's own, with Penstock installed as a package.

Jobs, settings and a test are written from here; the files of DAGs are copies of the shipped ones, which know no
pipeline by name.
"""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

from penstock.errors import DeclarationError

SOURCE = files("penstock") / "data" / "template"


def init(folder: Path) -> list[Path]:
    """Write the template into a new or empty folder and return its files.  Raises DeclarationError where it is not."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DeclarationError(f"{folder} is there and not empty: nothing was written", hint="name a new directory")
    written = []
    for source, name in sorted(_files()):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        written.append(target)
    return written


def _files() -> list[tuple[Path, str]]:
    root = Path(str(SOURCE))
    found = [(file, str(file.relative_to(root))) for file in root.rglob("*") if file.is_file()]
    shipped = dags()
    return [(file, name) for file, name in found if "__pycache__" not in name] + [
        (file, f"dags/{file.name}") for file in sorted(shipped.glob("*.py"))
    ]


def dags() -> Path:
    """Return the folder of the shipped DAGs: in an installed package beside the template, else the repository's."""
    installed = Path(str(files("penstock") / "data" / "dags"))
    return installed if installed.is_dir() else Path(__file__).parents[2] / "dags"
