"""The wheel, as a user installs it: `penstock init` writes a project from it, whose jobs load and whose DAGs parse; and
docs/testing.md leads a new user to a green pytest, on the stack that this session has (`--penstock-stack`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.testing.plugin import chosen

from ..cli import ROOT
from ..dags.conftest import PARSE

UV = [sys.executable, "-m", "uv"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and what it asks for; returns its directory of programs."""
    folder = tmp_path_factory.mktemp("wheel")
    venv, dist = folder / "venv", folder / "dist"
    run([*UV, "build", "--quiet", "--wheel", "--out-dir", str(dist), str(ROOT)], folder)
    (wheel,) = dist.glob("penstock-*.whl")
    run([*UV, "venv", "--quiet", "--python", sys.executable, str(venv)], folder)
    python, locked = str(venv / "bin/python"), str(ROOT / "requirements.lock")
    wanted = [f"penstock[airflow,containers,flink,stack] @ {wheel.as_uri()}", "pytest"]
    run([*UV, "pip", "install", "--quiet", "--python", python, "--constraint", locked, *wanted], folder)
    return venv / "bin"


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


@pytest.mark.timeout(1800)
def test_a_new_users_own_pipeline(installed: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """As the docs tell it: a data set that Penstock does not ship, in a repository of its own."""
    stack, mine = chosen(request.config), tmp_path / "clocks"
    text = (ROOT / "docs/testing.md").read_text(encoding="utf-8")
    job, test = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    run([str(installed / "penstock"), "init", str(mine)], tmp_path)
    (removed,) = re.findall(r"^rm (.*?) +#", text, re.MULTILINE)
    for name in removed.split():
        (mine / name).unlink()
    (mine / "jobs/clock_changes.py").write_text(job, encoding="utf-8")
    (mine / "tests/test_clock_changes.py").write_text(test, encoding="utf-8")
    assert "1 pipelines, no mistakes" in run([str(installed / "penstock"), "check"], mine)
    compose = os.pathsep.join(map(str, stack.overrides))
    told = run([str(installed / "pytest")], mine, PENSTOCK_TEST_STACK=stack.kind, PENSTOCK_TEST_COMPOSE=compose)
    print(told)
    assert f"penstock: {stack.kind} stack: " in told
    assert "3 passed" in told
