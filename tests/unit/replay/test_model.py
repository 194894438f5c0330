"""Every interleaving of a replay with live and late rows and deaths: the guards suffice, and each is needed."""

from __future__ import annotations

import pytest

from . import model_launch, model_stopped
from .model import GUARDS, explore


def test_with_all_guards_each_event_is_counted_once_or_kept() -> None:
    worlds, ends, wrong = explore()
    assert wrong is None
    assert worlds > 10_000
    assert ends > 100


@pytest.mark.parametrize("guard", GUARDS)
def test_without_any_one_guard_it_breaks(guard: str) -> None:
    _, _, wrong = explore(guard)
    assert wrong is not None, f"nothing breaks when we {GUARDS[guard]}"


def test_with_all_guards_a_stopped_pipeline_has_each_event_once() -> None:
    worlds, ends, wrong = model_stopped.explore()
    assert wrong is None
    assert worlds > 500
    assert ends > 10


@pytest.mark.parametrize("guard", model_stopped.GUARDS)
def test_without_any_one_guard_a_stopped_pipeline_breaks(guard: str) -> None:
    _, _, wrong = model_stopped.explore(guard)
    assert wrong is not None, f"nothing breaks when we {model_stopped.GUARDS[guard]}"


def test_with_all_guards_a_new_generation_has_each_event_once_and_no_window_is_gone() -> None:
    worlds, ends, wrong = model_launch.explore()
    assert wrong is None
    assert worlds > 10_000
    assert ends > 100


@pytest.mark.parametrize("guard", model_launch.GUARDS)
def test_without_any_one_guard_a_new_generation_breaks(guard: str) -> None:
    _, _, wrong = model_launch.explore(guard)
    assert wrong is not None, f"nothing breaks when we {model_launch.GUARDS[guard]}"
