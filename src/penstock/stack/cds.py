"""Class-data archives: a part's parsed classes, kept from its first clean stop, so that it starts with half the work.

    first start    java -XX:ArchiveClassesAtExit=<part>-<key>.<port base>.new ...   written when the part is stopped
    later starts   java -XX:SharedArchiveFile=<part>-<key>.jsa ...

The key changes with Java and with the jars.  An archive that is broken or does not fit is ignored by the JVM, which
then starts as slowly as without; so nothing but speed depends on them, and they may be deleted at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from penstock.settings import Settings
from penstock.stack.layout import pyflink_home
from penstock.stack.parts import Part

#: The JVM tells of every class that it can't archive.
_QUIET = "-Xlog:cds=error -Xlog:cds+dynamic=error"


def folder(settings: Settings) -> Path:
    """Return the archives' directory: every stack of the project has the same jars, so they share it."""
    return settings.home / "cds"


def jars_of(settings: Settings, part: Part) -> list[Path]:
    """Return the jars on a part's class path."""
    places = {"zookeeper": ["druid"], "kafka": ["kafka"], "druid": ["druid"], "flink": ["flink"]}[part.group]
    jars = [jar for place in places for jar in (settings.jars / place).glob("*.jar")]
    home = pyflink_home()
    if part.group == "flink" and home is not None:
        jars += home.glob("lib/*.jar")
    return sorted(jars)


def key(java: Path, jars: Iterable[Path]) -> str:
    """Return eight characters that change with the Java binary and with any jar's name, size or time."""
    digest = hashlib.sha256()
    for file in (java.resolve(), *jars):
        stat = file.stat()
        digest.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:8]


def arguments(settings: Settings, part: Part, java: Path) -> str:
    """Return the text of a part's `cds.args`: use its archive, or write one when it stops.

    Archives of older keys are deleted.
    """
    place = folder(settings)
    place.mkdir(parents=True, exist_ok=True)
    name = f"{part.name}-{key(java, jars_of(settings, part))}"
    archive, fresh = place / f"{name}.jsa", place / f"{name}.{settings.stack.port_base}.new"
    for other in place.glob(f"{part.name}-*"):
        if not other.name.startswith(name):
            other.unlink(missing_ok=True)
    use = f'-XX:SharedArchiveFile="{archive}"' if archive.is_file() else f'-XX:ArchiveClassesAtExit="{fresh}"'
    return f"{use}\n{_QUIET}\n"


def keep(settings: Settings) -> None:
    """Put into use what this stack's parts wrote when they stopped.  None of them may be running."""
    suffix = f".{settings.stack.port_base}.new"
    for fresh in folder(settings).glob(f"*{suffix}"):
        fresh.replace(fresh.with_name(fresh.name.removesuffix(suffix) + ".jsa"))
