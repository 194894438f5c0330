"""What infra/compose/backup.py refuses before it asks Docker for anything; tests/compose/test_backup.py has Docker."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "infra/compose/backup.py"
PASSWORDS = {"PENSTOCK_DRUID_PASSWORD": "right", "PENSTOCK_KAFKA_PASSWORD": "also"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "docker-compose.yml").touch()
    whole = tmp_path / "set"
    whole.mkdir()
    (whole / "kafka.tar.gz").write_bytes(b"an archive")
    (whole / "secrets.env").write_text("".join(f"{name}={value}\n" for name, value in PASSWORDS.items()))
    manifest = {
        "format": 1,
        "made": "2026-01-01T00:00:00+00:00",
        "images": {"kafka": "kafka:1"},
        "volumes": {"kafka": about(whole / "kafka.tar.gz")},
        "secrets": about(whole / "secrets.env"),
    }
    (whole / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def about(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def run(project: Path, *words: str, **environ: str) -> tuple[int, str]:
    """Return exit code and words; there is no `docker` on PATH."""
    command = [sys.executable, str(SCRIPT), *words]
    done = subprocess.run(command, cwd=project, env=environ | {"PATH": ""}, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


NO_DOCKER = (1, "restore: no docker on PATH: install Docker with compose v2\n")


def test_a_whole_set_gets_as_far_as_docker(project: Path) -> None:
    assert run(project, "restore", "set") == NO_DOCKER


def test_no_set_is_there(project: Path) -> None:
    code, said = run(project, "restore", "elsewhere")
    assert code == 3
    assert "elsewhere is no whole backup: manifest.json" in said


def test_every_damaged_file_is_named_even_by_force(project: Path) -> None:
    (project / "set/kafka.tar.gz").write_bytes(b"an archivf")
    (project / "set/secrets.env").unlink()
    code, said = run(project, "restore", "set", "--force")
    assert code == 3
    assert "not as written: kafka.tar.gz, secrets.env" in said


def test_a_set_of_another_format_is_left_to_its_version(project: Path) -> None:
    file = project / "set/manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    code, said = run(project, "restore", "set")
    assert code == 3
    assert "format 2" in said


def test_other_passwords_are_named_and_not_shown_nor_replaced_unasked(project: Path) -> None:
    mine = "PENSTOCK_DRUID_PASSWORD=wrong\nPENSTOCK_KAFKA_PASSWORD=also\nPENSTOCK_KAFKA_PORT=1234\n"
    (project / ".env").write_text(mine)
    code, said = run(project, "restore", "set")
    assert code == 3
    assert "(PENSTOCK_DRUID_PASSWORD)" in said
    assert "wrong" not in said
    assert "right" not in said
    assert (project / ".env").read_text() == mine
    assert run(project, "restore", "set", "--force") == NO_DOCKER


def test_an_exported_password_can_not_be_forced(project: Path) -> None:
    """Compose would go on using it."""
    code, said = run(project, "restore", "set", "--force", PENSTOCK_KAFKA_PASSWORD="mine")
    assert code == 3
    assert "unset PENSTOCK_KAFKA_PASSWORD" in said


def test_a_backup_overwrites_nothing(project: Path) -> None:
    code, said = run(project, "backup", "set")
    assert code == 3
    assert "set is there already" in said


@pytest.mark.parametrize("words", [("backup",), ("restore", "set")])
def test_one_at_a_time(project: Path, words: tuple[str, ...]) -> None:
    with (project / "docker-compose.yml").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, said = run(project, *words)
    assert code == 3
    assert "under way" in said
