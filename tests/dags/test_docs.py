"""Every example in docs/airflow.md is run: its DAG parses, beside the shipped jobs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import ROOT, Parse
from .test_dags import project_of

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs/airflow.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_is_a_dag(number: int, tmp_path: Path, parse: Parse) -> None:
    copy = project_of(tmp_path / "docs", 1)
    file = copy / "example.py"
    file.write_text(EXAMPLES[number], encoding="utf-8")
    (made,) = parse(file, copy)["dags"].values()
    assert made["tasks"]
    if number == 0:
        import penstock.airflow.operators as operators

        used = {kind for kind, *_ in made["tasks"].values()}
        assert used == set(operators.__all__), "each operator has its example"
