"""Fixtures for tests of one's own pipelines on real services; pytest finds them where Penstock is installed.

    def test_turnover(pipeline):
        orders = pipeline("orders_by_minute")
        orders.produce([{"order_id": "1", "country": "DE", "ordered_at": ..., "cents": 999}, ...])
        assert orders.rows() == [...]

`pipeline` applies a declaration of the project's `jobs/`, and takes it away after the test, its data too.  `kafka`,
`flink` and `druid` are the services themselves.  One stack is started for the whole session, when first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from penstock.services.druid import Druid
    from penstock.services.flink import Flink
    from penstock.services.kafka import Kafka
    from penstock.settings import Settings
    from penstock.testing import Deploy


@pytest.fixture(scope="session")
def penstock_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings of a project on a stack of this session's own; down at the end."""
    from penstock.settings import find_root
    from penstock.testing.native import native_stack

    with native_stack(find_root(request.config.rootpath), tmp_path_factory.mktemp("penstock")) as settings:
        yield settings


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
