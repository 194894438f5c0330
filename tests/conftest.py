"""Fixtures: golden files, and one stack for the whole run, native or (`--penstock-stack=containers`) of containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.settings import Settings
from penstock.testing.native import running
from penstock.testing.plugin import chosen, ended_in_order, scratch
from penstock.testing.project import project

from .cli import Cli

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write the golden files instead of comparing")
    parser.addoption("--write-images", action="store_true", help="write the pictures of the pages in docs anew")


class Golden:
    """Compare text with a committed file, or write the file."""

    def __init__(self, write: bool) -> None:
        self.write = write

    def check(self, file: Path, text: str) -> None:
        text = text.rstrip() + "\n"
        if self.write:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            return
        name = file.relative_to(ROOT)
        assert file.exists(), f"{name} is not there; `make golden` writes it"
        assert file.read_text(encoding="utf-8") == text, f"{name} is stale; `make golden` writes it anew; read the diff"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.config.getoption("--write-golden"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and count as deselected, what is about the native stack's processes where the stack is another."""
    native = [item for item in items if item.get_closest_marker("native")]
    if native and chosen(config).kind != "native":
        config.hook.pytest_deselected(items=native)
        items[:] = [item for item in items if item not in native]


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A stack on free ports with a state of its own; down at the end, also when a test fails.

    Without Airflow, which costs time and memory: a test that needs it asks for the fixture `airflow`.
    """
    choice, dags = chosen(request.config), tmp_path_factory.mktemp("dags")
    for file in (*(ROOT / "dags").glob("*.py"), *(ROOT / "tests/e2e/dags").glob("*.py")):
        (dags / file.name).symlink_to(file)
    with ended_in_order(), scratch(request.session, tmp_path_factory) as folder:
        containers = choice.kind == "containers"
        with choice.stack(ROOT, folder) if containers else running(ROOT, folder / "state", dags) as settings:
            yield settings


@pytest.fixture(scope="session")
def penstock_stack(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """What users' fixtures stand on: here the shared stack."""
    return project(stack, tmp_path_factory.mktemp("penstock"), ROOT / "jobs")


@pytest.fixture(scope="session")
def airflow(stack: Settings) -> Settings:
    """The shared stack, with Airflow from here on; its DAGs are the shipped ones and those of tests/e2e/dags."""
    from penstock.stack import up
    from penstock.wait import rich_progress

    with rich_progress("airflow") as progress:
        up(stack, progress)
    return stack


@pytest.fixture(scope="session")
def shop(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Generated clicks through three pipelines, on the shared stack."""
    return Cli(
        stack,
        project(stack, tmp_path_factory.mktemp("shop"), ROOT / "tests/e2e/jobs").root,
        "web.clicked.v1",
    )


@pytest.fixture(scope="session")
def flights(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The shipped pipelines, on the shared stack."""
    return Cli(stack, project(stack, tmp_path_factory.mktemp("flights"), ROOT / "jobs").root, "flights.departed.v1")
