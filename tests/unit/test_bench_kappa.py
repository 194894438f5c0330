"""The bench of Kappa and Lambda: its pure parts, and that its changes fit the files that they change."""

from __future__ import annotations

import json
import re
from string import Template

import duckdb
import pytest
from bench import kappa, lines, readers
from bench.comparison import Equality, Step, Told, held_against, put, table, tidy
from bench.readers import Seen, Times
from bench.stage import ROOT

from penstock.druid import data_schema
from penstock.errors import PenstockError
from penstock.load import load_pipelines

BATCH = ROOT / "examples" / "lambda"


def test_a_line_of_code_is_not_blank_nor_comment_nor_docstring() -> None:
    text = (
        '"""A module\nof two lines."""\n\n# why\nx = 1  # kept\n\ndef f() -> str:\n    """Say."""\n    return "# no"\n'
    )
    assert lines.code("a.py", text) == ["x = 1  # kept", "def f() -> str:", 'return "# no"']
    assert lines.code("a.sql", "-- what\nSELECT 1\n\n  , 2") == ["SELECT 1", ", 2"]
    assert lines.code("a.json", '{\n  "a": "# 1"\n}\n') == ["{", '"a": "# 1"', "}"]


def test_changed_lines_count_once() -> None:
    before = {"a.sql": "a\nb\nc", "b.sql": "same"}
    assert lines.changed(before, {"a.sql": "a\nB\nc", "b.sql": "same"}) == 1
    assert lines.changed(before, {"a.sql": "a\nb1\nb2\nc\nd", "b.sql": "-- said\nsame"}) == 3
    assert lines.total(before) == 4


def test_a_reader_sees_both_logics_or_a_day_that_lacks_events() -> None:
    old, new = {1: (100, 500), 2: (100, 400)}, {1: (100, 900), 2: (100, 800)}
    answers = [
        {1: (100, 500), 2: (100, 400)},  # old
        {1: (100, 900), 2: (99, 396)},  # both, one late event
        {1: (100, 900), 2: (40, 320)},  # new, the second cut short
        {2: (100, 800)},  # the first is not there
        {1: (100, 900)},  # new; the second is not closed yet
    ]
    seen = [Seen(float(number), days) for number, days in enumerate(answers)]
    assert readers.times(seen, old, new) == Times(mixed=1.0, short=2.0, answers=5)
    assert readers.times([], old, new) == Times(0, 0, 0)


def test_rows_are_held_against_the_oracle() -> None:
    want = {(1, "AA"): (5, 50), (1, "UA"): (3, 30), (2, "AA"): (2, 20), (2, "UA"): (1, 1)}
    there = {(1, "AA"): [(5, 50)], (1, "UA"): [(3, 30), (3, 30)], (2, "AA"): [(1, 10)], (3, "AA"): [(4, 4)]}
    assert held_against(there, want) == Equality(compared=4, differing=4, missing=2, excess=7)
    assert held_against({key: [row] for key, row in want.items()}, want) == Equality(4, 0, 0, 0)


def test_the_page_gets_what_was_measured_between_its_markers() -> None:
    assert put("a\n<!-- x -->\nold\n<!-- /x -->\nb", "x", "new") == "a\n<!-- x -->\nnew\n<!-- /x -->\nb"
    with pytest.raises(PenstockError, match="no markers <!-- y -->"):
        put("a", "y", "new")
    told = Told([Step("edit", "`a.py`: the measure"), Step("command", "`run`", 12.34)], {"a.sql": "a"}, {"a.sql": "b"})
    told.took = 12.34
    text = table(told, Told())
    assert "| Lines changed | 1 | 0 |" in text
    assert "| Kappa 2 | command: `run` | 12.3 |" in text
    assert tidy("id x, by me@there at 1  \n") == "id x, by you@host at 1"


def test_the_page_has_every_marker() -> None:
    page = kappa.PAGE.read_text(encoding="utf-8")
    told = Told(outputs={f"penstock {' '.join(words)}": "said" for words in kappa.SHOWN.values()})
    assert kappa.written(page, told, Told(), {"Date": "today"}).count("said") >= len(kappa.SHOWN)


def test_the_change_fits_both_copies_of_the_logic() -> None:
    assert (ROOT / kappa.JOB).read_text(encoding="utf-8").count(f"SUM{kappa.OLD}") == 1
    assert (ROOT / kappa.COPY).read_text(encoding="utf-8").count(f"sum{kappa.OLD}") == 1
    assert len(re.findall(kappa.CUT_OFF, (ROOT / kappa.VIEW).read_text(encoding="utf-8"))) == 2


def test_the_batch_layer_counts_as_the_declaration_does() -> None:
    """Its copy of the logic gives the columns that the pipeline has, in a datasource of the same shape."""
    declared = next(it for it in load_pipelines(ROOT / "jobs") if it.name == "carrier_daily")
    query = (BATCH / "carrier_daily.sql").read_text(encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE departures AS SELECT * FROM (VALUES (86400001, 'AA', 'BOS', -5, 100), "
            "(86400002, 'AA', 'BOS', 16, 100), (172800000, 'AA', 'SFO', 1, 100)) "
            "AS t(departed_at, carrier, dest, delay_min, distance_mi)"
        )
        answer = connection.execute(query, {"cut_off": 172_800_000})
        names = [column[0] for column in answer.description or []]
        assert answer.fetchall() == [(86_400_000, 172_800_000, "AA", 2, 1, 11, 200, 1, 2)]
    spec = json.loads(
        Template((BATCH / "ingest.json").read_text(encoding="utf-8")).substitute(first=1, until=2, file=3)
    )
    schema, ours = spec["spec"]["dataSchema"], data_schema(declared)
    assert [schema["timestampSpec"]["column"], *(it["name"] for it in schema["dimensionsSpec"]["dimensions"])] == names
    key = lambda it: it["name"]  # noqa: E731
    assert sorted(schema["dimensionsSpec"]["dimensions"], key=key) == sorted(
        ours["dimensionsSpec"]["dimensions"], key=key
    )
