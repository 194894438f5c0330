"""Every declaration is sound.  `penstock check` says the same."""

from pathlib import Path

from penstock.load import load_pipelines


def test_the_jobs_are_sound() -> None:
    assert load_pipelines(Path(__file__).parents[1] / "jobs")
