"""The shipped DAGs: they parse without a network, hold no cycle, and are the committed graphs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import Golden
from .conftest import ROOT, Parse

FILES = sorted((ROOT / "dags").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_parses_without_a_network_into_the_committed_graph(file: Path, parse: Parse, golden: Golden) -> None:
    found = parse(file)["dags"]
    assert found, f"{file.name} makes no DAG"
    golden.check(ROOT / "tests/golden/dags" / f"{file.stem}.json", json.dumps(found, indent=1))
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= 28, "a file of DAGs is thin: what decides is in the core"


def test_every_shipped_pipeline_has_a_dag(parse: Parse) -> None:
    from penstock.load import load_pipelines

    names = {f"penstock.{pipeline.name}" for pipeline in load_pipelines(ROOT / "jobs")}
    assert set(parse(ROOT / "dags/penstock_pipelines.py")["dags"]) == names


def project_of(folder: Path, count: int) -> Path:
    """Make a project of so many pipelines, with the shipped DAGs."""
    (folder / "jobs").mkdir(parents=True)
    (folder / "penstock.toml").write_text("[env.native.flink]\nparallelism = 1\n", encoding="utf-8")
    (folder / "dags").symlink_to(ROOT / "dags")
    job = (ROOT / "jobs/airport_delays.py").read_text(encoding="utf-8")
    (folder / "jobs/_flights.py").write_text((ROOT / "jobs/_flights.py").read_text(encoding="utf-8"), encoding="utf-8")
    for number in range(count):
        (folder / f"jobs/p{number}.py").write_text(job.replace("airport_delays", f"p{number}"), encoding="utf-8")
    return folder


def test_ten_pipelines_parse_quickly(tmp_path: Path, parse: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    """Processor time, as what else the machine does is not the files': a sixth of it is usual."""
    copy = project_of(tmp_path / "ten", 10)
    file = tmp_path / "ten" / "penstock_pipelines.py"
    file.write_text((ROOT / "dags/penstock_pipelines.py").read_text(encoding="utf-8"), encoding="utf-8")
    found = parse(file, copy)
    assert len(found["dags"]) == 10
    with capsys.disabled():
        print(f"\n10 pipelines parsed in {found['seconds']:.2f} s of processor time")
    assert found["seconds"] < 2


def test_a_broken_declaration_is_the_files_error(tmp_path: Path, parse: Parse) -> None:
    copy = project_of(tmp_path / "broken", 2)
    (copy / "jobs/p1.py").write_text("pipeline = Pipeline(", encoding="utf-8")
    file = copy / "penstock_pipelines.py"
    file.write_text((ROOT / "dags/penstock_pipelines.py").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(AssertionError, match=r"jobs/p1.py:1: '\(' was never closed"):
        parse(file, copy)


#: What the parser of this test must refuse, and the words in which it does.
WRONG = {
    "a cycle": ("EmptyOperator(task_id='a') >> EmptyOperator(task_id='b') >> dag.get_task('a')", "Cycle detected"),
    "a network call": ("import httpx; httpx.get('http://127.0.0.1:9')", "a network call while a file"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_parser_of_these_tests_refuses(what: str, tmp_path: Path, parse: Parse) -> None:
    does, words = WRONG[what]
    imports = "from airflow.sdk import DAG\nfrom airflow.providers.standard.operators.empty import EmptyOperator\n"
    (tmp_path / "wrong.py").write_text(f"{imports}with DAG('wrong') as dag:\n    {does}\n", encoding="utf-8")
    with pytest.raises(AssertionError, match=words):
        parse(tmp_path / "wrong.py")


def test_the_provider_is_described_as_airflow_wants_it() -> None:
    import jsonschema

    from airflow import providers_manager
    from penstock.airflow import get_provider_info

    schema = Path(providers_manager.__file__).with_name("provider_info.schema.json")
    info = get_provider_info()
    jsonschema.validate(info, json.loads(schema.read_text(encoding="utf-8")))
    from importlib import import_module

    modules = [name for key in ("operators", "hooks", "triggers") for name in info[key][0]["python-modules"]]
    for name in modules:
        import_module(name)
    for path in [*info["extra-links"], *(item["hook-class-name"] for item in info["connection-types"])]:
        module, _, attribute = path.rpartition(".")
        assert getattr(import_module(module), attribute)


def test_the_core_imports_no_airflow() -> None:
    source = ROOT / "src"
    modules = [
        ".".join(file.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted((source / "penstock").rglob("*.py"))
        if not {"airflow", "template", "__main__.py"} & set(file.relative_to(source / "penstock").parts)
    ]
    assert len(modules) > 60
    code = (
        "import sys, importlib\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in ('airflow', 'pyflink')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
