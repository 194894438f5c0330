"""Jars of a project that has Penstock as a package: fetched by Maven once, and anew when others are shipped."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from penstock.errors import DeclarationError, PenstockError
from penstock.settings import Settings
from penstock.stack import shipped

#: Plays Maven: notes its words, and makes a jar where it is told to; or fails.
MAVEN = """#!/bin/bash
echo "$*" >> "$(dirname "$0")/calls"
if [ -f "$(dirname "$0")/fail" ]; then echo "no such artifact: x:y:1"; exit 1; fi
for word; do case "$word" in -Dpenstock.jars=*) jars="${word#*=}";; --file) ;; esac; done
mkdir -p "$jars/kafka" && echo jar > "$jars/kafka/kafka.jar"
"""


@pytest.fixture
def maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "maven-bin"
    folder.mkdir()
    script = folder / "mvn"
    script.write_text(MAVEN)
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


@pytest.fixture
def theirs(settings: Settings) -> Settings:
    """A project that has no infra/."""
    (settings.root / "infra").unlink()
    return settings


def calls(maven: Path) -> int:
    log = maven / "calls"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_they_are_fetched_once(theirs: Settings, maven: Path) -> None:
    shipped.fetch_jars(theirs)
    shipped.fetch_jars(theirs)
    assert calls(maven) == 1
    assert (theirs.jars / "kafka" / "kafka.jar").is_file()
    assert not (theirs.home / "maven").exists(), "nothing is left of the build"


def test_and_anew_when_another_version_is_shipped(theirs: Settings, maven: Path) -> None:
    shipped.fetch_jars(theirs)
    (theirs.jars / ".built-from").write_text("another version")
    shipped.fetch_jars(theirs)
    assert calls(maven) == 2


def test_in_the_repository_itself_make_does_it(settings: Settings, maven: Path) -> None:
    shipped.fetch_jars(settings)
    assert calls(maven) == 0


def test_what_maven_says_is_told_and_it_is_tried_again(theirs: Settings, maven: Path) -> None:
    (maven / "fail").touch()
    with pytest.raises(PenstockError, match="no such artifact: x:y:1"):
        shipped.fetch_jars(theirs)
    (maven / "fail").unlink()
    shipped.fetch_jars(theirs)
    assert calls(maven) == 2


def test_without_maven_it_is_said(theirs: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DeclarationError, match="no `mvn` on PATH"):
        shipped.fetch_jars(theirs)
