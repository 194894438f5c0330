"""Fixtures for tests of one's own pipelines on real services; pytest finds them where Penstock is installed.

    def test_turnover(pipeline):
        orders = pipeline("orders_by_minute")
        orders.produce([{"order_id": "1", "country": "DE", "ordered_at": ..., "cents": 999}, ...])
        assert orders.rows() == [...]

`pipeline` applies a declaration of the project's `jobs/`, and takes it away after the test, its data too.  `kafka`,
`flink` and `druid` are the services themselves.  One stack is started for the whole session, when first asked for:
containers or the native one (`--penstock-stack`).
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from penstock.services.druid import Druid
    from penstock.services.flink import Flink
    from penstock.services.kafka import Kafka
    from penstock.settings import Settings
    from penstock.testing import Deploy
    from penstock.testing.choice import Choice

_CHOICE = pytest.StashKey["Choice"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("penstock")
    group.addoption(
        "--penstock-stack",
        choices=["auto", "containers", "native"],
        help="the stack for tests on real services: containers where a Docker engine and the images are there, "
        "else the native one (auto), or either one; else PENSTOCK_TEST_STACK",
    )
    group.addoption(
        "--penstock-compose",
        action="append",
        default=[],
        metavar="FILE",
        help="a compose file over the shipped docker-compose.yml, such as compose.airgap.yml; may be repeated; "
        "else PENSTOCK_TEST_COMPOSE, a list as in PATH",
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say which stack is taken and why; nothing where pytest does not run in a project."""
    from penstock.errors import DeclarationError, PenstockError
    from penstock.settings import find_root

    try:
        find_root(config.rootpath)
    except DeclarationError:
        return None
    try:
        return f"penstock: {chosen(config)}"
    except PenstockError as error:
        raise pytest.UsageError(f"penstock: {error}") from None


def chosen(config: pytest.Config) -> Choice:
    """Return the session's stack, decided once."""
    if _CHOICE not in config.stash:
        from penstock.settings import find_root
        from penstock.testing.choice import choose

        options = config.getoption("penstock_stack"), config.getoption("penstock_compose")
        config.stash[_CHOICE] = choose(find_root(config.rootpath), *options)
    return config.stash[_CHOICE]


@pytest.fixture(scope="session")
def penstock_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of a project on a stack of this session's own; down at the end."""
    from penstock.settings import find_root

    root, choice = find_root(request.config.rootpath), chosen(request.config)
    with (
        ended_in_order(),
        scratch(request.session, tmp_path_factory) as folder,
        choice.stack(root, folder) as settings,
    ):
        yield settings


@contextmanager
def scratch(session: pytest.Session, kept: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a directory for a stack, gone at the end; the logs of a native one are kept where a test has failed.

    Not one of pytest's own: those of a session that is interrupted, or ends at its first failure, may be removed
    before the fixtures are taken down (by pytest 9.2, where three newer sessions have begun).
    """
    with tempfile.TemporaryDirectory(prefix="penstock-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        logs = Path(folder) / "state" / "logs"
        if session.testsfailed and logs.is_dir():
            shutil.copytree(logs, kept.mktemp("penstock-logs"), dirs_exist_ok=True)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let SIGTERM end the session as Ctrl-C does: a job that is cancelled leaves no stack behind."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt("SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def kafka(penstock_stack: Settings) -> Kafka:
    """Kafka: `kafka.settings.bootstrap`, topics, offsets, records."""
    from penstock.services.kafka import Kafka

    return Kafka(penstock_stack.env.kafka)


@pytest.fixture(scope="session")
def flink(penstock_stack: Settings) -> Flink:
    """Flink: jobs, watermarks, checkpoints."""
    from penstock.services.flink import Flink

    return Flink(penstock_stack.env.flink)


@pytest.fixture(scope="session")
def druid(penstock_stack: Settings) -> Druid:
    """Druid: `druid.sql(...)`, supervisors, tasks."""
    from penstock.services.druid import Druid

    return Druid(penstock_stack.env.druid)


@pytest.fixture
def pipeline(penstock_stack: Settings) -> Iterator[Deploy]:
    """Apply a pipeline by its name, with its source topic new and empty; after the test nothing is left of it."""
    from penstock.testing.apply import applied

    with applied(penstock_stack) as deploy:
        yield deploy
