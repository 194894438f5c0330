"""A replay that is run step by step, each in a process of its own, is the same replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.errors import DeclarationError, RefusedError
from penstock.pipeline import Pipeline
from penstock.replay.begin import Begun, Request, begin
from penstock.replay.run import run, steps_of
from penstock.wait import Yielded, yielding

from ..memory import Crash, Fault
from .world import RAW, TUMBLE, Life, lived, outcome

PIPELINES = {"windowed": TUMBLE, "pass-through": RAW}
HOUR = {"start": "1970-01-01T00:00", "end": "1970-01-01T01:00"}


def begun(life: Life, **asked: Any) -> Begun:
    declared: dict[str, Pipeline] = {it.name: it for it in PIPELINES.values()}

    def named(names: Any) -> list[Pipeline]:
        return [declared[name] for name in names]

    request = Request(**({"pipeline": life.pipeline.name, **HOUR, "id": "r1", "reason": "a test"} | asked))
    return begin(request, named, life.services(), life.settings)


def step(life: Life, kind: str | None, fault: Fault | None = None, **asked: Any) -> Any:
    it = begun(life, **asked)
    it.refuse()
    more = {"timeout": 0.2, "steady": 0.0}
    return run(it.pipeline, it.replay, life.services(fault), life.settings, through=kind, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("dry_run", [False, True])
def test_step_by_step_it_ends_the_same(name: str, dry_run: bool, tmp_path: Path) -> None:
    whole, life = lived(tmp_path / "whole", PIPELINES[name]), lived(tmp_path / "steps", PIPELINES[name])
    whole.replay(dry_run=dry_run)
    kinds = [it.kind for it in steps_of(life.pipeline, begun(life, dry_run=dry_run).replay)]
    for number, kind in enumerate(kinds, start=1):
        done = step(life, kind, dry_run=dry_run)
        assert done.done == tuple(kinds[:number])
        again = step(life, kind, dry_run=dry_run)
        assert again.but(seconds=done.seconds) == done, f"{kind}, run again, changes nothing"
    assert done.status == ("dry" if dry_run else "done")
    assert outcome(life).replace("/steps/", "/whole/") == outcome(whole)


@pytest.mark.parametrize("name", PIPELINES)
def test_killed_in_any_step_and_run_again_it_ends_the_same(name: str, tmp_path: Path) -> None:
    whole = lived(tmp_path / "whole", PIPELINES[name])
    whole.replay()
    kinds = [it.kind for it in steps_of(whole.pipeline, begun(whole).replay)]
    for kind in kinds:
        at = 0
        while True:
            at += 1
            life, fault = lived(tmp_path / f"{kind}{at}", PIPELINES[name]), Fault(at, after=True)
            for before in kinds[: kinds.index(kind)]:
                step(life, before)
            try:
                step(life, kind, fault)
            except Crash:
                for left in kinds[kinds.index(kind) :]:
                    step(life, left)
                assert outcome(life).replace(f"{kind}{at}", "whole") == outcome(whole), f"died in {kind}, call {at}"
                continue
            assert at > 1, "each step notes at least that it is done"
            break


def test_a_hand_off_is_looked_at_again_by_the_run_that_publishes(tmp_path: Path) -> None:
    life = lived(tmp_path)
    step(life, "hand off")
    life.druid.fail_task("sales")
    step(life, None)
    assert life.rows(0, 60_000) == [(0, 1), (0, 2)]


def test_a_step_that_waits_gives_up_its_place_and_is_run_again(tmp_path: Path) -> None:
    life = lived(tmp_path)
    compute = life.flink.bounded
    step(life, "settle")
    life.flink.submit_batch = slow(life)  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(Yielded, match="computing sales: running"), yielding(0.0):
            step(life, "compute")
    assert len([job for job in life.flink.jobs() if "replay" in job.name]) == 1
    compute(life.spec)  # type: ignore[attr-defined]
    life.flink.set_state("penstock.replay.sales.r1", "FINISHED")
    assert step(life, None).status == "done"


def slow(life: Life) -> Any:
    def submit_batch(settings: Any, spec: Any, progress: Any = None) -> None:
        if life.flink.job(spec.job_id) is None:
            life.spec = spec  # type: ignore[attr-defined]
            life.flink._start(spec.job_id, spec.name)

    return submit_batch


def test_a_step_that_it_has_not_is_refused(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(RefusedError, match="has no step 'stop'"):
        step(life, "stop")


def test_what_is_asked_is_checked_in_one_place(tmp_path: Path) -> None:
    life = lived(tmp_path)
    with pytest.raises(DeclarationError, match="--from 2013-02-02 is not before --to 2013-02-01"):
        begun(life, start="2013-02-02", end="2013-02-01", id=None)
    with pytest.raises(DeclarationError, match="a pipeline, --from and --to are needed"):
        begun(life, end=None, id="x")
    with pytest.raises(DeclarationError, match="there is no replay 'x' to go on with"):
        begun(life, pipeline=None, start=None, end=None, id="x")
    done = step(life, None)
    assert begun(life, pipeline=None, start=None, end=None).replay == done
    with pytest.raises(DeclarationError, match="r1 is another replay: sales, 1970-01-01T00:00Z"):
        begun(life, end="1970-01-01T02:00")
    assert begun(life).ended
