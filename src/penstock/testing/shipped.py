"""The compose file and all that it names, of Penstock's repository or of the installed package."""

from __future__ import annotations

import runpy
import shutil
from importlib.resources import files
from pathlib import Path

COMPOSE = "docker-compose.yml"
#: What compose reads when it starts the images.
RUN = (COMPOSE, "penstock.toml", "infra/compose", "infra/druid/indexer.sh", "infra/supervisor/log4j2.properties")
#: What the images are built from, beside the package itself.
BUILD = (
    COMPOSE,
    ".dockerignore",
    "compose.airgap.yml",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "penstock.toml",
    "infra",
    "dags",
)


def shipped() -> Path:
    """Return the folder that has them: the package's data, else the repository."""
    data = Path(str(files("penstock") / "data"))
    return data if (data / COMPOSE).is_file() else Path(__file__).parents[3]


def copy(names: tuple[str, ...], folder: Path) -> None:
    """Copy some of what is shipped; what Maven has built beside its sources is left out."""
    for name in names:
        source, target = shipped() / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_built, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)


def write_secrets(folder: Path) -> None:
    """Add to `.env` in a folder with what is run every password that compose asks for, newly generated."""
    runpy.run_path(str(folder / "infra/compose/make_secrets.py"))["write"](folder / ".env")


def build_context(folder: Path) -> None:
    """Lay out in `folder` what the repository's root has for a build of the images."""
    copy(BUILD, folder)
    package = Path(str(files("penstock")))
    shutil.copytree(package, folder / "src" / "penstock", ignore=lambda at, names: {*_built(at, names), *_twice(at)})


def _built(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("target", "__pycache__")}


def _twice(at: str) -> set[str]:
    """What an installed package has in its data already, and the build puts there again."""
    return {name.split("/")[0] for name in BUILD} if Path(at).name == "data" else set()
