"""Which stack a session takes, and what it says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.errors import DeclarationError, PenstockError
from penstock.testing import choice, engine
from penstock.testing.choice import choose
from penstock.testing.containers import override
from penstock.testing.engine import NoEngineError

from ...conftest import ROOT


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, ...]]:
    """The overrides that the engine was asked about; it has them all."""
    seen: list[tuple[Path, ...]] = []

    def available(overrides: Sequence[Path]) -> str:
        seen.append(tuple(overrides))
        return "they are here"

    monkeypatch.setattr(choice, "available", available)
    return seen


def test_containers_where_the_engine_has_them(asked: list[tuple[Path, ...]]) -> None:
    assert str(choose(ROOT, environ={})) == "containers stack: they are here"
    assert asked == [()]


def test_native_asks_no_engine(asked: list[tuple[Path, ...]]) -> None:
    assert choose(ROOT, "native", environ={}).kind == "native"
    assert choose(ROOT, environ={"PENSTOCK_TEST_STACK": "native"}).kind == "native"
    assert asked == []


def test_the_option_comes_before_the_environment(asked: list[tuple[Path, ...]]) -> None:
    environ = {"PENSTOCK_TEST_STACK": "native", "PENSTOCK_TEST_COMPOSE": "nowhere.yml"}
    found = choose(ROOT, "containers", ["compose.airgap.yml"], environ)
    assert (found.kind, found.overrides) == ("containers", (ROOT / "compose.airgap.yml",))


def test_overrides_are_listed_as_in_path(asked: list[tuple[Path, ...]], tmp_path: Path) -> None:
    (tmp_path / "mine.yml").touch()
    found = choose(tmp_path, environ={"PENSTOCK_TEST_COMPOSE": "mine.yml:compose.airgap.yml"})
    assert found.overrides == (tmp_path / "mine.yml", ROOT / "compose.airgap.yml") == asked[0]


def test_without_an_engine_it_is_native_unless_containers_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def available(overrides: Sequence[Path]) -> str:
        raise NoEngineError("no image", hint="build it")

    monkeypatch.setattr(choice, "available", available)
    assert str(choose(ROOT, environ={})) == "native stack: no image (build it)"
    with pytest.raises(NoEngineError, match="no image"):
        choose(ROOT, "containers", environ={})


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(DeclarationError, match="no stack 'docker'; there are: auto, containers, native"):
        choose(ROOT, environ={"PENSTOCK_TEST_STACK": "docker"})
    with pytest.raises(PenstockError, match=r"no absent\.yml: neither in"):
        override("absent.yml", ROOT)


class Images:
    """An engine's images: those that are local, and those that a registry has."""

    def __init__(self, here: set[str], there: set[str]) -> None:
        self.here, self.there = here, there

    def get(self, name: str) -> None:
        from docker.errors import ImageNotFound

        if name not in self.here:
            raise ImageNotFound("no such image")

    def get_registry_data(self, name: str) -> None:
        from docker.errors import APIError

        if name not in self.there:
            raise APIError("500", explanation="no such host")


SERVICES: dict[str, Any] = {
    "kafka": {"image": "kafka:4"},
    "flink": {"image": "ours:1", "build": {"dockerfile": "infra/images/Dockerfile"}},
    "worker": {"image": "ours:1"},
    "druid": {"image": "yours:1", "build": {"dockerfile": "yours"}},
}


def require(here: set[str], there: set[str]) -> str:
    client: Any = SimpleNamespace(images=Images(here, there))
    return engine.require(client, SERVICES)


def test_images_are_here_or_can_be_pulled() -> None:
    assert require({"kafka:4", "ours:1", "yours:1"}, set()) == "its images are here"
    assert require({"ours:1", "yours:1"}, {"kafka:4"}) == "1 images to pull"


def test_an_image_that_can_not_be_had_is_named() -> None:
    with pytest.raises(NoEngineError, match="kafka:4 is not here, and can't be pulled: no such host"):
        require({"ours:1", "yours:1"}, set())
    with pytest.raises(NoEngineError, match=r"ours:1 is not built\n  python -m penstock\.testing\.images"):
        require({"kafka:4", "yours:1"}, {"ours:1"})
    with pytest.raises(NoEngineError, match=r"yours:1 is not built$"):
        require({"kafka:4", "ours:1"}, set())
