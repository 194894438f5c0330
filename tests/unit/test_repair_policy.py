"""When a repair is due: what a declaration says, and what the clock and the late topic say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from penstock.flink.spec import version
from penstock.repair_policy import Due, RepairPolicy, Standing, due, parse_policy
from penstock.validate import problems

from .memory import topic, windowed

PIPELINE = windowed(topic())


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def policy(text: str) -> RepairPolicy:
    found = parse_policy(text)
    assert found is not None
    assert str(found) == text
    return found


@pytest.mark.parametrize("text", ["after 10 min", "after 2 h", "hourly", "nightly", "never"])
def test_a_policy_reads_as_it_is_written(text: str) -> None:
    assert problems(replace(PIPELINE, repair=text)) == []
    assert policy(text)


@pytest.mark.parametrize("value", ["after", "after 10", "after 0 min", "10 min", "weekly", "", None, 5, ["hourly"]])
def test_another_is_a_mistake_and_told_with_the_others(value: object) -> None:
    found = problems(replace(PIPELINE, name="Sales", repair=value))  # type: ignore[arg-type]
    assert [it.where for it in found] == ["pipeline.name", "Sales.repair"]
    assert 'for example "after 10 min", "hourly", "nightly", "never"' in str(found[1])


def test_it_is_nightly_unless_declared_and_no_part_of_the_version() -> None:
    assert PIPELINE.repair == RepairPolicy(every="nightly")
    assert version(replace(PIPELINE, repair="never")) == version(PIPELINE)


NOON = at("2024-03-05T12:20")
LATE = Standing(ready=3, newest=at("2024-03-05T12:05"))


@pytest.mark.parametrize(
    ("text", "facts", "wanted"),
    [
        ("never", replace(LATE, unfinished="x"), Due(False, "its policy is never: only by hand")),
        ("nightly", Standing(unfinished="repair-x"), Due(True, "repair-x is not finished")),
        ("hourly", Standing(), Due(False, "no late event to heal")),
        ("after 1 min", Standing(waiting=7), Due(False, "no late event to heal; 7 wait for open windows")),
        ("after 15 min", LATE, Due(True, "3 late events, and none more for 15 min")),
        (
            "after 16 min",
            LATE,
            Due(False, "3 late events, the last one less than 16 min ago", at("2024-03-05T12:21")),
        ),
        ("hourly", LATE, Due(True, "3 late events, and no repair since 2024-03-05T12:00Z")),
        (
            "hourly",
            replace(LATE, repaired=at("2024-03-05T11:59")),
            Due(True, "3 late events, and no repair since 2024-03-05T12:00Z"),
        ),
        (
            "hourly",
            replace(LATE, repaired=at("2024-03-05T12:00")),
            Due(False, "3 late events; repaired at 2024-03-05T12:00Z already", at("2024-03-05T13:00")),
        ),
        (
            "nightly",
            replace(LATE, ready=1, repaired=at("2024-03-05T01:59")),
            Due(True, "1 late event, and no repair since 2024-03-05T02:00Z"),
        ),
        (
            "nightly",
            replace(LATE, repaired=at("2024-03-05T02:10")),
            Due(False, "3 late events; repaired at 2024-03-05T02:10Z already", at("2024-03-06T02:00")),
        ),
    ],
)
def test_what_is_due(text: str, facts: Standing, wanted: Due) -> None:
    assert due(policy(text), NOON, facts) == wanted


def test_before_two_o_clock_the_night_is_that_of_yesterday() -> None:
    found = due(policy("nightly"), at("2024-03-05T01:00"), replace(LATE, repaired=at("2024-03-04T02:00")))
    assert found == Due(False, "3 late events; repaired at 2024-03-04T02:00Z already", at("2024-03-05T02:00"))
