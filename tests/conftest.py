"""Fixtures: golden files, and one native stack for the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.settings import Settings, load_settings
from penstock.testing.native import free_port_base

from .cli import Cli

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write the golden files instead of comparing")
    parser.addoption("--write-images", action="store_true", help="write the pictures of docs/airflow.md anew")


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


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A native stack on free ports with a state of its own; down at the end, also when a test fails.

    Without Airflow, which costs time and memory: a test that needs it asks for the fixture `airflow`.
    """
    from penstock.stack import down, up
    from penstock.wait import rich_progress

    state = tmp_path_factory.mktemp("stack")
    environ = {"PENSTOCK_STATE": str(state), "PENSTOCK_PORT_BASE": str(free_port_base())}
    dags = tmp_path_factory.mktemp("dags")
    for file in (*(ROOT / "dags").glob("*.py"), *(ROOT / "tests/e2e/dags").glob("*.py")):
        (dags / file.name).symlink_to(file)
    settings = load_settings(ROOT, environ=environ).model_copy(update={"dags": dags})
    with rich_progress("stack") as progress:
        try:
            up(settings, progress, without=["airflow"])
            yield settings
        finally:
            down(settings, progress)


@pytest.fixture(scope="session")
def airflow(stack: Settings) -> Settings:
    """The shared stack, with Airflow from here on; its DAGs are the shipped ones and those of tests/e2e/dags."""
    from penstock.stack import up
    from penstock.wait import rich_progress

    with rich_progress("airflow") as progress:
        up(stack, progress)
    return stack


def project(folder: Path, jobs: Path) -> Path:
    """Make a project of its own: settings, jobs, and the jars and generated files of this one."""
    folder.mkdir(exist_ok=True)
    (folder / "penstock.toml").write_text((ROOT / "penstock.toml").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "jobs").symlink_to(jobs)
    (folder / ".penstock").mkdir()
    (folder / ".penstock" / "jars").symlink_to(ROOT / ".penstock" / "jars")
    return folder


@pytest.fixture(scope="session")
def shop(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Generated clicks through three pipelines, on the shared stack."""
    return Cli(stack, project(tmp_path_factory.mktemp("shop"), ROOT / "tests/e2e/jobs"), "web.clicked.v1")


@pytest.fixture(scope="session")
def flights(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The shipped pipelines, on the shared stack."""
    return Cli(stack, project(tmp_path_factory.mktemp("flights"), ROOT / "jobs"), "flights.departed.v1")
