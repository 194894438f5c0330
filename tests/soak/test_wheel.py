"""The wheel, as a user installs it: `penstock init` writes a project from it, whose jobs load and whose DAGs parse.

The build fetches its backend; what the wheel needs is taken from this environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from ..cli import ROOT
from ..dags.test_dags import PARSE

UV = [sys.executable, "-m", "uv"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; returns its directory of programs."""
    folder = tmp_path_factory.mktemp("wheel")
    venv, dist = folder / "venv", folder / "dist"
    run([*UV, "build", "--quiet", "--wheel", "--out-dir", str(dist), str(ROOT)], folder)
    (wheel,) = dist.glob("penstock-*.whl")
    run([*UV, "venv", "--quiet", "--python", sys.executable, str(venv)], folder)
    programs = venv / "bin"
    run([*UV, "pip", "install", "--quiet", "--no-deps", "--python", str(programs / "python"), str(wheel)], folder)
    (site,) = venv.glob("lib/python*/site-packages")
    # A path that a .pth file names is searched last, and its own .pth files (this repository's sources) are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return programs


def run(words: list[str], cwd: Path, **environ: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(words, cwd=cwd, env={**kept, **environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def test_a_project_of_the_wheel_checks_and_its_dags_parse(installed: Path, tmp_path: Path) -> None:
    python = str(installed / "python")
    where = Path(run([python, "-c", "import penstock; print(penstock.__file__)"], tmp_path).strip())
    assert where.is_relative_to(installed.parent), "it is the wheel, not this repository"
    mine = tmp_path / "mine"
    run([str(installed / "penstock"), "init", str(mine)], tmp_path)
    shipped = {file.name for file in (ROOT / "dags").glob("*.py")}
    assert {file.name for file in (mine / "dags").glob("*.py")} == shipped
    assert "1 pipelines, no mistakes" in run([str(installed / "penstock"), "check"], mine)
    home = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    ids = set()
    for file in sorted((mine / "dags").glob("*.py")):
        ids |= set(json.loads(run([python, "-c", PARSE, str(file)], mine, **home).splitlines()[-1])["dags"])
    assert len(ids) == len(shipped) and "penstock.orders_by_minute" in ids
