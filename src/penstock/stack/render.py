"""Render the parts' configuration: templates below infra/ and the stack's settings to files in <state>/conf and run."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

from penstock.errors import DeclarationError
from penstock.settings import Settings
from penstock.stack import shipped
from penstock.stack.layout import Layout, layout, make_private, template_values
from penstock.stack.parts import Part, parts
from penstock.stack.processes import MARK

#: glibc keeps a memory arena for each thread and core; two are enough and save some 100 MB over all parts.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "TZ": "UTC"}


def render(settings: Settings, java: Path) -> dict[Path, str]:
    """Return every file that the stack is started from, with its text.  Reads the templates; writes nothing."""
    place, infra = layout(settings), shipped.infra(settings.root)
    values = template_values(settings)
    files: dict[Path, str] = {}
    for part in parts(settings):
        for name, sources in part.files.items():
            text = "\n".join(_fill(infra / source, {**values, "part": part.name}) for source in sources)
            files[place.conf / part.name / name] = text
        if part.before:
            files[_script(place, part)] = _read(infra / part.before[0])
    files[place.supervisord_conf] = _supervisord(settings.root, place, parts(settings), values, java)
    return files


def _supervisord(root: Path, place: Layout, everything: Iterable[Part], values: Mapping[str, str], java: Path) -> str:
    infra, plain = shipped.infra(root), values
    # The process manager expands %(...)s in its file, so that a percent sign is written twice.
    values = {name: value.replace("%", "%%") for name, value in values.items()}
    sections = [_fill(infra / "supervisor/supervisord.conf", values)]
    for part in everything:
        words = part.command or (str(java), f"@{place.cds_file(part.name)}", f"@{place.args_file(part.name)}")
        if part.before:
            given = (Template(word).substitute(plain) for word in part.before[1:])
            words = ("/bin/sh", str(_script(place, part)), *given, *words)
        environment = {**ENVIRONMENT, MARK: str(place.state), **part.environment}
        own = {
            "name": part.name,
            "command": shlex.join(words).replace("%", "%%"),
            "directory": str(root if part.command else place.conf / part.name).replace("%", "%%"),
            "environment": ",".join(f'{name}="{value}"' for name, value in environment.items()),
            "stop_seconds": str(part.stop_seconds),
        }
        sections.append(_fill(infra / "supervisor/program.conf", {**values, **own}))
    return "".join(sections)


def _script(place: Layout, part: Part) -> Path:
    return place.conf / part.name / Path(part.before[0]).name


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise DeclarationError(
            f"{file}: can't be read: {error.strerror}",
            hint="a project's infra/ is taken for the stack's: give it every file, or rename it",
        ) from None


def _fill(template: Path, values: Mapping[str, str]) -> str:
    try:
        return Template(_read(template)).substitute(values)
    except (KeyError, ValueError) as error:
        raise DeclarationError(f"{template}: names {error}, which is no setting of the stack") from None


def changed(files: Mapping[Path, str]) -> list[Path]:
    """Return those of `files` that are not on disk as they are here."""
    return [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def write(settings: Settings, files: Mapping[Path, str]) -> None:
    """Make the stack's directories, and write `files`; the parts' temporary files of an earlier run are deleted."""
    place = layout(settings)
    make_private(place.state)  # configuration may hold secrets, and data is nobody else's
    for folder in (place.conf, place.logs, place.run, place.tmp):
        folder.mkdir(parents=True, exist_ok=True)
    # The socket's own directory may be in a shared /tmp: it must be ours, and closed to others.
    place.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = place.socket.parent.stat()
    if owner.st_uid != os.getuid() or place.socket.parent.is_symlink():
        hint = "choose a shorter state directory"
        raise DeclarationError(f"{place.socket.parent} belongs to another user", hint=hint)
    for part in parts(settings):
        shutil.rmtree(place.tmp / part.name, ignore_errors=True)
        (place.tmp / part.name).mkdir(parents=True)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
