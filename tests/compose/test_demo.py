"""The demo's year of real flights, and the host's and the containers' `penstock` on it."""

from __future__ import annotations

import json
import time

from .stack import Clock, Compose, passed


def test_the_host_finds_it_equal_too(flown: Compose) -> None:
    ledgers = flown.verify()
    assert {it["pipeline"] for it in ledgers} == {"airport_delays", "carrier_daily", "flights_raw"}


def test_a_plan_says_the_same_on_both_sides(flown: Compose) -> None:
    outside = passed(flown.penstock("plan"))
    inside = flown.run("exec", "-T", "airflow-scheduler", "penstock", "plan")
    assert "nothing to do" in outside
    assert "nothing to do" in inside


def test_figures_are_asked_for_on_the_host(flown: Compose) -> None:
    sql = 'SELECT SUM("_rows") AS flights FROM "flights_raw"'
    rows = json.loads(passed(flown.penstock("query", sql, "--json")))
    assert rows[0]["flights"] > 300_000


def test_down_and_up_keep_everything(flown: Compose, clock: Clock) -> None:
    before = figures(flown)
    flown.run("down", "--timeout", "30")
    assert flown.left().keys() == {"volumes"}
    started = time.monotonic()
    flown.up()
    clock.time("`down`, then `up --wait`: with data, to healthy", started)
    assert figures(flown) == before


def figures(stack: Compose) -> dict[str, tuple[int, ...]]:
    kept = ("read", "late", "dead_lettered", "rows_compared")
    return {it["pipeline"]: tuple(it[name] for name in kept) for it in stack.verify()}
