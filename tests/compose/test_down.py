"""The end: `down -v` leaves nothing."""

from __future__ import annotations

import time

from .stack import Clock, Compose


def test_down_with_volumes_leaves_nothing(stack: Compose, clock: Clock) -> None:
    assert stack.left().keys() == {"containers", "volumes", "networks"}
    started = time.monotonic()
    stack.run("down", "--volumes", "--timeout", "30")
    clock.time("`down -v`", started)
    assert stack.left() == {}
