"""Declarations: durations, portable expressions, every mistake at once, and loading a folder of jobs."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from penstock import Aggregate, Datasource, Field, Hop, Pipeline, Select, Topic, Tumble, expr, load
from penstock.durations import format_duration, parse_duration
from penstock.errors import DeclarationError
from penstock.load import load_pipelines
from penstock.validate import Problem, problems

ROOT = Path(__file__).parents[2]


def topic(**changes: object) -> Topic:
    values: dict[str, object] = {
        "fields": [
            Field("id", "string"),
            Field("value", "long", nullable=True),
            Field("price", "double"),
            Field("at", "timestamp_ms"),
        ],
        "event_time": "at",
        "key": "id",
    }
    return Topic("shop.sold.v1", **(values | changes))  # type: ignore[arg-type]


def fields(*names: str) -> Topic:
    return topic(fields=[*(Field(name, "string") for name in names), Field("at", "timestamp_ms")], key=None)


def pipeline(**changes: object) -> Pipeline:
    values: dict[str, object] = {
        "source": topic(),
        "transform": Aggregate(window=Tumble("1 min"), by=["id"], measures={"n": "COUNT(*)"}),
        "sink": Datasource(dimensions=["id"]),
    }
    return Pipeline("sales", **(values | changes))  # type: ignore[arg-type]


def aggregate(**changes: object) -> Pipeline:
    values: dict[str, object] = {"window": Tumble("1 min"), "by": ["id"], "measures": {"n": "COUNT(*)"}}
    return pipeline(transform=Aggregate(**(values | changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("500 ms", timedelta(milliseconds=500)),
        ("30 s", timedelta(seconds=30)),
        ("5min", timedelta(minutes=5)),
        ("1 h", timedelta(hours=1)),
        ("90 d", timedelta(days=90)),
    ],
)
def test_durations_are_read_and_written(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["", "5", "min", "-5 min", "0 s", "1.5 h", "5 minutes", None, 5, timedelta(0)])
def test_other_text_is_no_duration(text: object) -> None:
    assert parse_duration(text) is None


def test_a_sound_declaration_has_no_problems() -> None:
    assert problems(pipeline()) == []


@pytest.mark.parametrize(
    ("declared", "where", "rule"),
    [
        (pipeline(source=topic(out_of_orderness="soon")), "sales.source.out_of_orderness", "a duration is"),
        (pipeline(source=topic(event_time="id")), "sales.source.event_time", "there are: at"),
        (pipeline(source=topic(key="nobody")), "sales.source.key", "one of the fields"),
        (pipeline(source=topic(partitions=0)), "sales.source.partitions", "whole number from 1"),
        (pipeline(source=topic(fields=[Field("at", "timestamp")], key=None)), "sales.source.fields.at.type", "one of"),
        (pipeline(source="shop.sold.v1"), "sales.source", "the source is a Topic"),
        (pipeline(source=topic(fields=[])), "sales.source.fields", "at least one"),
        (pipeline(source=topic(fields=[])), "sales.source.key", "(there are none)"),
        (pipeline(source=topic(fields=["a"])), "sales.source.fields", "a list of Field"),
        (pipeline(source=topic(fields=None)), "sales.source.fields", "a list of Field"),
        (pipeline(source=topic(fields=[Field("a", ["long"])])), "sales.source.fields.a.type", "one of"),
        (pipeline(source=fields("a", "A")), "sales.source.fields.A", "differ in capital letters"),
        (pipeline(source=fields("WINDOW_END")), "sales.source.fields.WINDOW_END", "not window_start"),
        (pipeline(source=topic(partitions="4"), parallelism=2), "sales.source.partitions", "whole number"),
        (pipeline(source=topic(partitions=True)), "sales.source.partitions", "whole number"),
        (pipeline(parallelism="2"), "sales.parallelism", "whole number"),
        (pipeline(source=topic(max_message_bytes=-5)), "sales.source.max_message_bytes", "from 1"),
        (pipeline(parallelism=9), "sales.parallelism", "from 1 to the source's partitions (4)"),
        (aggregate(window=Hop(size="1 h", slide="7 min")), "sales.transform.window.size", "multiple of its slide"),
        (aggregate(window=Tumble("500 ms")), "sales.transform.window.size", "whole seconds"),
        (aggregate(window="1 h"), "sales.transform.window", "Tumble or Hop"),
        (aggregate(by=["nobody"]), "sales.transform.by", "one of the fields"),
        (aggregate(by=["price"]), "sales.transform.by", "doubles and times"),
        (aggregate(by="id"), "sales.transform.by", "a list of names"),
        (aggregate(by=["id", "id"]), "sales.transform.by", "once"),
        (aggregate(by=["id", 5]), "sales.transform.by", "written as text"),
        (aggregate(measures={"n": 5}), "sales.transform.measures.n", "written as text"),
        (aggregate(measures=5), "sales.transform.measures", "map a column's name"),
        (aggregate(measures={"ID": "COUNT(*)"}), "sales.transform.measures.ID", "neither a key"),
        (aggregate(measures={"n": "COUNT(*)", "N": "COUNT(*)"}), "sales.transform.measures.N", "capital letters"),
        (aggregate(where=5), "sales.transform.where", "written as text"),
        (pipeline(transform="all"), "sales.transform", "Select(...) or Aggregate(...)"),
        (pipeline(sink="druid"), "sales.sink", "the sink is a Datasource"),
        (pipeline(sink=Datasource(dimensions="id")), "sales.sink.dimensions", "a list of names"),
        (pipeline(sink=Datasource(dimensions=["id"], segment=["day"])), "sales.sink.segment", "one of hour"),
        (pipeline(transform=Select(columns="id"), sink=Datasource()), "sales.transform.columns", "a list of names"),
        (pipeline(transform=Select(columns=["at", "at"]), sink=Datasource()), "sales.transform.columns", "once"),
        (pipeline(transform=Select()), "sales.sink.dimensions", "only a roll-up names dimensions"),
        (aggregate(measures={}), "sales.transform.measures", "at least one"),
        (aggregate(measures={"n": "SUM(nothing)"}), "sales.transform.measures.n", "no field 'nothing'"),
        (aggregate(measures={"n": "SUM(id)"}), "sales.transform.measures.n", "sum"),
        (aggregate(measures={"n": "AVG(value)"}), "sales.transform.measures.n", "AVG is not one of"),
        (aggregate(measures={"n": "MAX(UPPER(id))"}), "sales.transform.measures.n", "UPPER is not one of"),
        (aggregate(where="lower(id) = 'a'"), "sales.transform.where", "LOWER is not one of"),
        (aggregate(measures={"n": "SUM(value) / COUNT(*)"}), "sales.transform.measures.n", "divide in the query"),
        (aggregate(measures={"n": "value"}), "sales.transform.measures.n", "a measure is a COUNT"),
        (aggregate(measures={"window_end": "COUNT(*)"}), "sales.transform.measures.window_end", "neither a key"),
        (aggregate(where="value"), "sales.transform.where", "true or false"),
        (aggregate(where="value >"), "sales.transform.where", "Parser Error"),
        (pipeline(sink=Datasource(dimensions=[])), "sales.sink.dimensions", "its keys ['id']"),
        (pipeline(sink=Datasource(dimensions=["id"], segment="week")), "sales.sink.segment", "one of hour"),
        (pipeline(transform=Select(columns=["id"])), "sales.transform.columns", "event time 'at'"),
        (
            pipeline(transform=Select(), sink=Datasource(dimensions=["id"], measures={"n": "SUM(value)"})),
            "sales.sink.granularity",
            "go together",
        ),
        (
            pipeline(
                transform=Select(),
                sink=Datasource(dimensions=["id"], measures={"n": "SUM(id)"}, granularity="1 min"),
            ),
            "sales.sink.measures.n",
            "long, a double",
        ),
    ],
)
def test_a_mistake_says_where_and_which_rule(declared: Pipeline, where: str, rule: str) -> None:
    found = {problem.where: problem for problem in problems(declared)}
    assert where in found, [str(problem) for problem in found.values()]
    assert rule.lower() in found[where].rule.lower()
    assert "for example" in str(found[where])


def test_all_mistakes_are_found_at_once() -> None:
    broken = aggregate(by=["nobody"], measures={"n": "AVG(value)"}, window=Tumble("x"))
    assert len(problems(broken)) >= 4


def test_text_where_a_list_belongs_is_one_mistake_and_not_one_a_letter() -> None:
    for declared in (aggregate(by="id"), pipeline(sink=Datasource(dimensions="id"))):
        assert len(problems(declared)) == 1


def test_mistakes_of_topic_transform_and_sink_are_found_at_once() -> None:
    declared = pipeline(
        source=topic(partitions="4", fields=[]),
        parallelism=0,
        transform=Select(columns="id"),
        sink=Datasource(measures=3),  # type: ignore[arg-type]
    )
    assert [problem.where.removeprefix("sales.") for problem in problems(declared)] == [
        "source.fields",
        "source.event_time",
        "source.key",
        "source.partitions",
        "parallelism",
        "transform.columns",
        "sink.measures",
    ]


def test_names_are_quoted_for_each_dialect_and_whole_numbers_are_64_bits() -> None:
    text = "SUM(CASE WHEN value != 3 THEN 1 ELSE 0 END)"
    assert expr.render(text, ["value"], expr.FLINK) == (
        "SUM(CASE WHEN `value` <> CAST(3 AS BIGINT) THEN CAST(1 AS BIGINT) ELSE CAST(0 AS BIGINT) END)"
    )
    assert '"value"' in expr.render(text, ["value"], expr.DUCKDB)


def test_a_declaration_is_frozen_all_through() -> None:
    declared = pipeline()
    assert isinstance(declared.transform, Aggregate)
    with pytest.raises(TypeError):
        declared.transform.measures["n"] = "SUM(value)"  # type: ignore[index]
    assert hash(declared) == hash(pipeline())


JOB = """
from penstock import Datasource, Field, Pipeline, Select, Topic
topic = Topic("shop.sold.v1", fields=[Field("at", "timestamp_ms")], event_time="at"{more})
pipeline = Pipeline("{name}", source=topic, transform=Select(), sink=Datasource())
"""


def test_every_file_s_mistakes_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(JOB.format(name="twice", more=""))
    (tmp_path / "b.py").write_text(JOB.format(name="twice", more=", partitions=8"))
    (tmp_path / "c.py").write_text("pipeline = Pipeline(\n")
    (tmp_path / "d.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "e.py").write_text("x = 1\n")
    (tmp_path / "f.py").write_text("import sys\n\nsys.exit('no database')\n")
    (tmp_path / "g.py").write_text("import _torn\n")
    (tmp_path / "_torn.py").write_text("\n\n1 / 0\n")
    (tmp_path / "_shared.py").write_text("this is not run")
    with pytest.raises(DeclarationError) as caught:
        load_pipelines(tmp_path)
    text = str(caught.value)
    assert "'twice' is also declared in" in text
    assert "'shop.sold.v1' is declared differently" in text
    assert "c.py:1: '(' was never closed: pipeline = Pipeline(" in text
    assert "d.py:1: ModuleNotFoundError" in text
    assert "e.py: it declares no pipeline" in text
    assert "f.py:3: SystemExit: no database" in text
    assert "_torn.py:3: ZeroDivisionError" in text
    assert caught.value.exit_code == 2


def test_a_pipeline_that_can_not_be_checked_hides_no_other_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(declared: Pipeline) -> list[Problem]:
        if declared.name == "first":
            raise ZeroDivisionError("a fault of the check's own")
        return problems(declared)

    monkeypatch.setattr(load, "problems", fails)
    (tmp_path / "a.py").write_text(JOB.format(name="first", more=""))
    (tmp_path / "b.py").write_text(JOB.format(name="Second", more=""))
    with pytest.raises(DeclarationError) as caught:
        load_pipelines(tmp_path)
    first, second = caught.value.problems
    assert first.endswith("a.py: 'first' can't be checked: ZeroDivisionError: a fault of the check's own")
    assert "pipeline.name = 'Second'" in second


def test_a_name_that_is_no_text_is_a_mistake_too(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(JOB.format(name="x", more="").replace('"x"', "['x']"))
    with pytest.raises(DeclarationError, match="a pipeline's name is lower-case letters"):
        load_pipelines(tmp_path)


def test_a_folder_s_shared_parts_are_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "_part.py").write_text(f"name = {name!r}\n")
        (tmp_path / name / "job.py").write_text(
            "from _part import name\n" + JOB.format(name="{name}", more="").replace('"{name}"', "name")
        )
    assert [load_pipelines(tmp_path / name)[0].name for name in ("one", "two")] == ["one", "two"]


def test_the_shipped_jobs_load_without_pyflink_and_airflow() -> None:
    code = (
        "import sys; sys.modules['pyflink'] = sys.modules['airflow'] = None\n"
        "from pathlib import Path; import penstock.plan, penstock.ledger, penstock.cli\n"
        "from penstock.load import load_pipelines\n"
        "print(*(p.name for p in load_pipelines(Path('jobs'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["airport_delays", "carrier_daily", "flights_raw"], done.stderr
