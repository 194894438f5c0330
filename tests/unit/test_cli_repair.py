"""`penstock repair` as a user meets it, over an environment in memory: what it prints, its exit codes, its data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock import cli, proof
from penstock.cli.context import Context
from penstock.errors import PenstockError
from penstock.pipeline import Pipeline
from penstock.reconcile import Ledger
from penstock.repair_policy import parse_policy
from penstock.replay import mend

from .memory import Crash, Fault
from .replay.test_repair import ledger, segment
from .replay.world import TUMBLE, Life, lived

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Life:
    """An hour with two late events; the ledger, where it is taken, is equal."""
    made = lived(tmp_path)
    monkeypatch.setattr(Context, "services", made.services())
    monkeypatch.setattr(Context, "settings", made.settings)
    declare(monkeypatch, TUMBLE)
    monkeypatch.setattr(proof, "prove", lambda *_, **__: ledger(segment(0)))
    monkeypatch.setattr(mend, "STEADY", 0.0)
    real = mend.repair
    monkeypatch.setattr(mend, "repair", lambda *args, **more: real(*args, **{**more, "timeout": 0.2, "steady": 0.0}))
    return made


def declare(monkeypatch: pytest.MonkeyPatch, *pipelines: Pipeline) -> None:
    found = {it.name: it for it in pipelines}
    monkeypatch.setattr(Context, "pipelines", lambda _, names=(): [found[it] for it in names or found])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["penstock", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def test_it_says_what_it_would_do_and_does_it(life: Life, run: Run) -> None:
    before = life.state()
    code, out, _ = run("repair", "sales", "--plan")
    assert code == 0
    assert "sales: 2 late events: 0 healed, 2 to heal" in out
    assert "1970-01-01T00:00Z  1970-01-01T01:00Z  2 late  to be replayed" in out
    assert life.state() == before
    code, out, err = run("repair", "sales")
    assert code == 0, err
    assert "sales: 1 span healed now; 2 late events: 2 healed" in out
    assert run("repair", "sales")[1] == "sales: nothing to repair; 2 late events: 2 healed\n"


def test_as_data(life: Life, run: Run) -> None:
    plan = json.loads(run("repair", "sales", "--plan", "--json")[1])
    assert (plan["late"], plan["healed"], plan["waiting"], plan["unfinished"]) == (2, 0, 0, [])
    assert (plan["spans"][0]["why"], plan["spans"][0]["state"]) == ("2 late", "ready")
    done = json.loads(run("repair", "sales", "--json")[1])
    (span,) = done["spans"]
    assert (span["from"], span["state"], span["replay"]) == ("1970-01-01T00:00Z", "healed", done["receipts"][0]["id"])
    assert (done["late"], done["healed"]) == (2, 2)


def test_the_ledger_is_taken_of_the_range_and_not_for_late_ones_only(
    life: Life, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []

    def prove(*_: Any, start: str | None, end: str | None, **__: Any) -> Ledger:
        taken.append((start, end))
        return ledger(segment(0, druid=1))

    monkeypatch.setattr(proof, "prove", prove)
    assert run("repair", "sales", "--late-only", "--plan")[0] == 0
    assert taken == []
    out = run("repair", "sales", "--from", "1970-01-01T00:10", "--to", "1970-01-01T00:20", "--plan")[1]
    assert taken == [("1970-01-01T00:00Z", "1970-01-01T01:00Z")]
    assert "2 late, Druid lacks 4" in out
    code, out, err = run("repair", "sales")
    assert taken[1:] == [(None, None), ("1970-01-01T00:00Z", "1970-01-01T01:00Z")]
    assert code == 4
    assert "not equal" in out
    assert "not equal after the repair: 1 of 1 spans" in err


def test_a_refused_span_is_told_with_the_way_out(life: Life, run: Run) -> None:
    fault = Fault()
    life.replay(fault=fault)
    with pytest.raises(Crash):
        life.replay(id="by-hand", fault=Fault(len(fault.calls) - 1))
    life.arrive(3_000)
    life.live()
    code, out, err = run("repair", "sales")
    assert code == 3
    assert "refused" in out
    assert "`penstock replay --id by-hand` goes on with it" in " ".join(err.split())


def test_what_is_due_is_repaired_and_a_failure_does_not_stop_the_others(
    life: Life, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(TUMBLE, name="another", repair="never")
    declare(monkeypatch, other, TUMBLE)
    code, out, err = run("repair", "--due", "--plan")
    assert code == 0, err
    assert "another (never): not due: it is not applied" in out
    assert "sales (nightly): due: 2 late events, and no repair since" in out
    real = mend.is_due

    def failing(pipeline: Pipeline, *args: Any) -> Any:
        if pipeline.name == "another":
            raise PenstockError("another: its topic can't be read")
        return real(pipeline, *args)

    monkeypatch.setattr(mend, "is_due", failing)
    code, out, err = run("repair", "--due", "--json")
    assert code == 1
    assert "another: its topic can't be read" in err
    told = json.loads(out)
    assert [it.get("error") for it in told] == ["another: its topic can't be read", None]
    assert told[1]["repair"]["healed"] == 2
    assert life.rows(0, 60_000) == [(0, 1), (0, 2)]
    monkeypatch.setattr(mend, "is_due", real)
    code, out, _ = run("repair", "--due", "sales")
    assert (code, out) == (0, "sales (nightly): not due: no late event to heal\n")


def test_it_is_told_when_it_will_be_due(life: Life, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("repair", "sales")[0] == 0
    life.arrive(4_000, id="c")
    life.live()
    declare(monkeypatch, replace(TUMBLE, repair=parse_policy("hourly") or ""))
    code, out, _ = run("repair", "--due")
    assert code == 0
    assert "sales (hourly): not due: 1 late event; repaired at" in out
    assert ":00Z" in out.rpartition("due at ")[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["repair"], "one pipeline is repaired at a time"),
        (["repair", "sales", "sales"], "one pipeline is repaired at a time"),
        (["repair", "--due", "--from", "1970-01-01"], "--from and --to don't go with it"),
        (["repair", "sales", "--from", "1970-01-02", "--to", "1970-01-01"], "--from 1970-01-02 is not before --to"),
        (["repair", "sales", "--from", "soon"], "--from 'soon' is no date"),
    ],
)
def test_a_mistake_on_the_command_line(life: Life, run: Run, words: list[str], message: str) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert message in err


def test_a_replay_of_a_pipeline_that_is_declared_no_more_is_given_up(
    life: Life, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Crash):
        life.replay(fault=Fault(4))
    declare(monkeypatch)
    code, out, err = run("replays", "--abandon", "r1")
    assert (code, life.replays.read()["r1"].status) == (0, "abandoned"), err
    assert "sales: given up, nothing published" in out
