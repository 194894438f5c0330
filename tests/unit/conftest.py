"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.memory import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A whole environment in memory: Kafka, Flink and Druid as their twins."""
    return World(tmp_path)
