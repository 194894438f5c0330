"""A wait that may give up its place does so as if it were killed, and only there."""

from __future__ import annotations

import pytest

from penstock.errors import WaitTimeoutError
from penstock.wait import Pending, Yielded, until, yielding


def pending() -> bool | Pending:
    return Pending("not yet")


def test_a_wait_yields_its_place_past_every_handler_of_errors() -> None:
    with pytest.raises(Yielded, match="a job: not yet") as caught, yielding(0.02):
        try:
            until("a job", pending, timeout=60, interval=0.005)
        except Exception:
            pytest.fail("what yields is no error")
    assert (caught.value.subject, caught.value.state) == ("a job", "not yet")


def test_outside_it_waits_for_its_deadline() -> None:
    with yielding(0.0):
        pass
    with pytest.raises(WaitTimeoutError):
        until("a job", pending, timeout=0.02, interval=0.005)


def test_what_is_there_at_once_never_yields() -> None:
    with yielding(0.0):
        assert until("a job", lambda: "there", timeout=1) == "there"
