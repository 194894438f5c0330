"""What the stack is made from: infra/, of the project where it has one, else what is shipped with Penstock.

Jars are fetched once a project by Maven, from the files in infra/jars.  In Penstock's own repository `make setup` does
so; a project that has Penstock as a package gets them at its first `up`.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

from penstock.errors import DeclarationError, PenstockError
from penstock.settings import Settings
from penstock.wait import Pending, Progress, Silent, until

#: Seconds for Maven, with nothing cached and a slow line.
FETCH_TIMEOUT = 1800
#: How much of Maven's words is told where it fails.
LAST_LINES = 15


def infra(root: Path) -> Path:
    """Return the folder of templates: the project's own, the installed package's, or the repository's."""
    packaged = Path(str(files("penstock") / "data" / "infra"))
    repository = Path(__file__).parents[3] / "infra"
    return next((folder for folder in (root / "infra", packaged) if folder.is_dir()), repository)


def own(settings: Settings) -> bool:
    """True where the project has an infra/ of its own, and so its own way to its jars."""
    return (settings.root / "infra").is_dir()


def fetch_jars(settings: Settings, show: Progress | None = None) -> None:
    """Fetch the jars and build Penstock's own, where infra/ is not the project's own; a second time nothing is done.

    Raises DeclarationError where there is no Maven, PenstockError with its last words where it fails.
    """
    if own(settings):
        return
    source = infra(settings.root) / "jars"
    key = _digest(source)
    mark = settings.jars / ".built-from"
    if mark.is_file() and mark.read_text(encoding="utf-8") == key:
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise DeclarationError(
            f"no jars in {settings.jars} yet, and no `mvn` on PATH to fetch them", hint="install Maven and a JDK"
        )
    # A copy: an installed package may not be written to, and Maven builds beside its sources.
    work = settings.home / "maven"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work, ignore=shutil.ignore_patterns("target"))
    settings.jars.mkdir(parents=True, exist_ok=True)
    words = [maven, "--quiet", "--batch-mode", "-Dstyle.color=never", "--file", str(work / "pom.xml"), "-DskipTests"]
    _run([*words, f"-Dpenstock.jars={settings.jars.resolve()}", "package"], work / "maven.log", show or Silent())
    mark.write_text(key, encoding="utf-8")
    shutil.rmtree(work)


def _run(command: list[str], log: Path, show: Progress) -> None:
    with log.open("w", encoding="utf-8") as out, subprocess.Popen(command, stdout=out, stderr=out) as child:
        try:
            until(
                "jars",
                lambda: child.poll() is not None or Pending("Maven fetches them, once a project"),
                timeout=FETCH_TIMEOUT,
                interval=0.5,
                progress=show,
            )
        finally:
            if child.poll() is None:
                child.terminate()
    if child.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        raise PenstockError("Maven could not fetch the jars:\n" + "\n".join(said))


def _digest(folder: Path) -> str:
    """Return what the folder's files are, in one word."""
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "target" not in file.relative_to(folder).parts:
            found.update(f"{file.relative_to(folder)}\0".encode())
            found.update(file.read_bytes())
    return found.hexdigest()
