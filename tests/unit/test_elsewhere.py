"""Verbs of the native stack, and of files that lie elsewhere, in an environment that Penstock did not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.elsewhere import reached, refuse_without_files, require_native
from penstock.errors import DeclarationError
from penstock.health import Finding
from penstock.settings import Settings, load_settings

TOML = """
[env.compose.flink]
state = "file://{state}"
[env.prod.flink]
state = "{state}"
"""


def settings(folder: Path, state: str, env: str) -> Settings:
    (folder / "penstock.toml").write_text(TOML.format(state=state))
    return load_settings(folder, env=env, environ={})


@pytest.mark.parametrize(("verb", "instead"), [("up", "up --wait"), ("down", "down"), ("logs", "logs --follow")])
def test_a_verb_of_the_native_stack_says_what_to_do_in_compose(tmp_path: Path, verb: str, instead: str) -> None:
    with pytest.raises(DeclarationError, match=f"`penstock {verb}` is for the native stack") as caught:
        require_native(settings(tmp_path, "/nowhere/flink", "compose"), verb)
    assert caught.value.hint == f"`docker compose {instead}`"
    require_native(settings(tmp_path, "/nowhere/flink", "native"), verb)


def test_what_needs_files_that_are_not_here_is_refused_with_the_line_that_works(tmp_path: Path) -> None:
    words = ["--env", "compose", "replay", "sales", "--from", "2024-01-01", "--reason", "a day of hours"]
    with pytest.raises(DeclarationError, match="reads files below /nowhere/flink") as caught:
        refuse_without_files(settings(tmp_path, "/nowhere/flink", "compose"), "replay", words)
    line = "docker compose exec airflow-scheduler penstock replay sales --from 2024-01-01 --reason 'a day of hours'"
    assert caught.value.hint == f"run it inside: {line}"


def test_files_that_are_here_or_will_be_and_those_in_a_store_refuse_nothing(tmp_path: Path) -> None:
    refuse_without_files(settings(tmp_path, f"{tmp_path}/not-yet", "compose"), "replay", [])
    refuse_without_files(settings(tmp_path, "s3://bucket/flink", "prod"), "replay", [])


def test_status_tells_which_service_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    down = [Finding("", "Flink", "unavailable", "connection refused")]
    monkeypatch.setattr("penstock.health.services_down", lambda _: down)
    found = {item.name: item.state for item in reached(settings(tmp_path, "/nowhere/flink", "compose"))}
    assert found == {
        "Kafka": "answers",
        "Flink": "unavailable: connection refused",
        "Druid": "answers",
        "Druid's broker": "answers",
    }
