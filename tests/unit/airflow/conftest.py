"""Fixtures of Airflow's side."""

from __future__ import annotations

import pytest

from . import acting as acting  # it tells Airflow that these are unit tests, before Airflow is imported


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in memory needs to be watched for longer; the hand-off makes sure at once."""
    import penstock.replay.mend as mend
    import penstock.replay.run as run
    import penstock.upgrade as core
    from penstock.airflow import base

    monkeypatch.setattr(base, "PLACE", 0.3)
    monkeypatch.setattr(base, "EVERY", 0.05)
    for function in (run.run, mend.repair, core.upgrade):
        defaults = dict(function.__kwdefaults__ or {})
        monkeypatch.setattr(function, "__kwdefaults__", {**defaults, "steady": 0.0})
