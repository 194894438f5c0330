"""Read the declarations: every `*.py` of a folder is run, and its module-level pipelines are collected and checked."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from penstock.errors import DeclarationError
from penstock.pipeline import Pipeline, Topic
from penstock.validate import problems


def load_pipelines(folder: Path) -> list[Pipeline]:
    """Return the pipelines declared in `folder`, by name.  Files that start with `_` are shared parts, not jobs.

    Raises DeclarationError with every mistake of every file: what can't be run, what breaks a rule, names used twice,
    topics declared in two ways.
    """
    if not folder.is_dir():
        raise DeclarationError(f"{folder}: no such folder", hint='name it in penstock.toml: jobs = "jobs"')
    mistakes: list[str] = []
    found: list[tuple[str, Pipeline]] = []
    with _importing_from(folder):
        for file in sorted(folder.glob("[!_]*.py")):
            try:
                pipelines = _run(file)
            except (Exception, SystemExit) as error:
                mistakes.append(mistake(file, error))
                continue
            if not pipelines:
                mistakes.append(f"{_short(file)}: it declares no pipeline; end it with pipeline = Pipeline(...)")
            found += [(_short(file), pipeline) for pipeline in pipelines]
    for place, pipeline in found:
        mistakes += _problems(place, pipeline)
    mistakes += _clashes(found)
    if mistakes:
        raise DeclarationError(mistakes)
    return sorted((pipeline for _, pipeline in found), key=lambda pipeline: pipeline.name)


def named(folder: Path, names: Sequence[str] = ()) -> list[Pipeline]:
    """Return the pipelines declared in `folder`, or those named; a name that is not declared is a mistake."""
    declared = {pipeline.name: pipeline for pipeline in load_pipelines(folder)}
    unknown = [name for name in names if name not in declared]
    if unknown:
        there = ", ".join(declared) or "none"
        raise DeclarationError(f"no pipeline {', '.join(map(repr, unknown))} is declared; there are: {there}")
    return [declared[name] for name in names] if names else list(declared.values())


def _short(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def _run(file: Path) -> list[Pipeline]:
    spec = importlib.util.spec_from_file_location(f"penstock_jobs.{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [value for value in vars(module).values() if isinstance(value, Pipeline)]


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let job files import shared parts beside them, and forget those parts afterwards: another folder has its own."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(f"{folder}/"):
                del sys.modules[name]


def _problems(place: str, pipeline: Pipeline) -> list[str]:
    """Return a pipeline's mistakes; one that even checking it fails on must not hide those of the others."""
    try:
        return [f"{place}: {problem}" for problem in problems(pipeline)]
    except Exception as error:
        return [f"{place}: {pipeline.name!r} can't be checked: {type(error).__name__}: {error}"]


def mistake(file: Path, error: BaseException) -> str:
    """Say in one line where the user's file failed, and why."""
    if isinstance(error, SyntaxError):
        text = (error.text or "").strip()
        where = Path(error.filename or file)
        return f"{where.parent.name}/{where.name}:{error.lineno}: {error.msg}: {text}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(str(file.parent)) and "site-packages" not in frame.filename
    ]
    place = f"{_short(Path(frames[-1].filename))}:{frames[-1].lineno}" if frames else _short(file)
    return f"{place}: {type(error).__name__}: {error}"


def _clashes(found: list[tuple[str, Pipeline]]) -> Iterator[str]:
    names: dict[str, str] = {}
    topics: dict[str, tuple[str, Topic]] = {}
    for place, pipeline in found:
        name, source = pipeline.name, pipeline.source
        if str(name) in names:
            yield f"{place}: {name!r} is also declared in {names[str(name)]}; a pipeline's name is its own"
        names.setdefault(str(name), place)
        if not isinstance(source, Topic) or not isinstance(source.name, str):
            continue
        other_place, other = topics.setdefault(source.name, (place, source))
        if other != source:
            yield (
                f"{place}: topic {source.name!r} is declared differently in {other_place}; "
                "declare it once, in a shared file such as jobs/_topics.py"
            )
