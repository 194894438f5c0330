"""Replays that can't be finished: what is told, what is left standing, and what may go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.errors import DeclarationError, NotEqualError, PenstockError, RefusedError, WaitTimeoutError
from penstock.pipeline import Pipeline
from penstock.replay.begin import Request, begin
from penstock.replay.run import abandon, asked, note, prepare, refuse, run
from penstock.replay.scope import scope
from penstock.replay.steps import Plan
from penstock.services.flink import local
from penstock.topics import source_topic

from .world import HOUR, RAW, SOURCE, TUMBLE, Life, lived

FIRST = ("1970-01-01T00:00", "1970-01-01T01:00")


def _planned(life: Life, name: str, *span: str, allow: frozenset[str] = frozenset()) -> Plan:
    wanted = scope(life.pipeline, *(span or FIRST))
    request = asked(wanted, dry_run=False, rate=None, reason="", allow=allow)
    return prepare(life.pipeline, wanted, request, life.services(), life.settings, id=name)


def _run(life: Life, made: Plan) -> str:
    refuse(made)
    return run(life.pipeline, made.replay, life.services(), life.settings, timeout=0.2, steady=0.0).status


def _runs(life: Life) -> bool:
    return life.registry.read()[life.pipeline.name].status == "running" and any(it.live for it in life.flink.jobs())


def _job(life: Life) -> str:
    return next(it.name for it in life.flink.jobs() if it.live)


def _loses_a_row(life: Life) -> None:
    compute = life.flink.bounded

    def damaged(spec: Any) -> None:
        compute(spec)
        folder = local(spec.folder)
        assert folder is not None
        lines = (folder / "part-0").read_text().splitlines()
        (folder / "part-0").write_text("".join(f"{line}\n" for line in lines[1:]))
        life.flink.bounded = compute

    life.flink.bounded = damaged


@pytest.mark.parametrize("pipeline", [TUMBLE, RAW], ids=lambda it: it.name)
def test_one_that_is_not_proved_is_given_up_and_stands_in_nobodys_way(pipeline: Pipeline, tmp_path: Path) -> None:
    life = lived(tmp_path, pipeline)
    before = life.rows()
    _loses_a_row(life)
    with pytest.raises(NotEqualError, match="nothing was published") as told:
        life.replay()
    assert "the files are kept in" in str(told.value.hint) and "r1 is given up" in str(told.value.hint)
    assert ("its job goes on" in str(told.value.hint).replace("sales_raw's", "its")) == (pipeline is RAW)
    assert life.replays.read()["r1"].status == "abandoned"
    assert list((tmp_path / "state").rglob("part-0")), "to see what is wrong with them"
    assert life.rows() == before and _runs(life)
    assert life.replay(id="r2").status == "done"
    assert _runs(life)


def test_a_job_that_stands_still_is_told_of_with_both_ways_on(tmp_path: Path) -> None:
    life = lived(tmp_path, RAW)
    life.druid.submit_task = lambda spec: life.druid.tasks.update({spec["id"]: "FAILED"})  # type: ignore[method-assign]
    with pytest.raises(PenstockError, match="failed") as told:
        life.replay()
    hint = str(told.value.hint)
    assert "sales_raw's job stands still until then" in hint
    assert "`penstock replay --id r1`" in hint and "`penstock replays --abandon r1`" in hint
    abandon(RAW, life.replays.read()["r1"], life.services(), life.settings, timeout=0.2)
    assert _runs(life)


def test_a_job_that_is_restarting_when_a_replay_is_planned_runs_after_it(tmp_path: Path) -> None:
    life = lived(tmp_path, RAW)
    job = _job(life)
    life.flink.set_state(job, "RESTARTING")
    made = _planned(life, "r1")
    with pytest.raises(WaitTimeoutError, match="restarting"):  # no savepoint can be taken of it
        _run(life, made)
    life.flink.set_state(job, "RUNNING")
    assert _run(life, made) == "done"
    assert _runs(life)


def test_a_windowed_job_that_is_restarting_is_waited_for(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.flink.set_state(_job(life), "RESTARTING")
    with pytest.raises(RefusedError, match="its job is restarting, so that no window closes") as told:
        refuse(_planned(life, "r1"))
    assert "penstock start" not in str(told.value.hint), "it was started"


def test_of_two_that_were_planned_at_once_one_is_noted(tmp_path: Path) -> None:
    life = lived(tmp_path)
    first, second, elsewhere = _planned(life, "r1"), _planned(life, "r2"), _planned(life, "r3")
    note(TUMBLE, first.replay, life.services(), life.settings)
    for late in (second, elsewhere):
        with pytest.raises(RefusedError, match="replay r1 of the same range was begun meanwhile"):
            note(TUMBLE, late.replay, life.services(), life.settings)
    assert set(life.replays.read()) == {"r1"}
    assert _run(life, first) == "done"


def test_what_the_log_no_longer_holds_is_not_replaced_by_nothing(tmp_path: Path) -> None:
    life = lived(tmp_path)
    before = life.rows()
    assert before
    life.kafka.delete_topic(SOURCE.name)
    life.kafka.create_topic(source_topic(SOURCE, life.settings.env))
    with pytest.raises(RefusedError, match=r"the log gives no row for segment 1970-01-01T00:00Z \(\d+ events") as told:
        _run(life, _planned(life, "r1"))
    assert "--allow empty-segments" in str(told.value.hint)
    assert life.rows() == before and life.replays.read()["r1"].status == "abandoned"
    assert not list((tmp_path / "state").rglob("part-0")), "nothing to look at"
    assert _run(life, _planned(life, "r2", allow=frozenset({"empty-segments"}))) == "done"
    assert [row for row in life.rows() if row[0] < HOUR] == []


def test_a_publication_that_is_lost_again_and_again_comes_to_an_end(tmp_path: Path) -> None:
    life, submitted = lived(tmp_path), []

    def lost(spec: Any) -> None:
        submitted.append(spec["id"])
        assert len(submitted) < 50
        life.druid.tasks[spec["id"]] = "FAILED"

    life.druid.failure = "This task disappeared on the worker where it was assigned"
    life.druid.submit_task = lost  # type: ignore[method-assign]
    with pytest.raises(WaitTimeoutError, match="was lost"):
        life.replay(timeout=0.5)


def test_a_dry_runs_id_is_not_another_replays(tmp_path: Path) -> None:
    life = lived(tmp_path)
    request = Request(TUMBLE.name, *FIRST, dry_run=True, id="fix")

    def again(what: Request) -> str:
        begun = begin(what, lambda names: [TUMBLE], life.services(), life.settings)
        return run(TUMBLE, begun.replay, life.services(), life.settings, timeout=0.2, steady=0.0).status

    assert again(request) == again(request) == again(Request(id="fix")) == "dry"
    with pytest.raises(DeclarationError, match="fix is another dry run") as told:
        again(Request(TUMBLE.name, *FIRST, id="fix"))
    assert "choose another --id" in str(told.value.hint)
