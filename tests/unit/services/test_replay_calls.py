"""What a replay asks of Druid (33.0.0) and Flink (2.2.1), as they answer; recorded from them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from penstock.errors import NoDatasourceError, PenstockError, UnavailableError
from penstock.services import druid as module
from penstock.services.druid import Reading

from .test_druid import Cluster as Druid
from .test_flink import JOB
from .test_flink import Cluster as Flink

TASK = "penstock_replay_native_x_1"


def test_reading_tells_where_each_task_began() -> None:
    status = {
        "payload": {
            "activeTasks": [{"id": "index_kafka_x_1", "startingOffsets": {"1": 13480, "0": 13344}, "lag": {}}],
            "publishingTasks": [{"id": "index_kafka_x_0", "startingOffsets": {"1": 0, "0": 0}}],
        }
    }
    reading = Druid({"GET /supervisor/x/status": status}).druid.reading("x")
    assert reading == Reading({"index_kafka_x_1": {0: 13344, 1: 13480}}, ("index_kafka_x_0",))
    assert Druid({}).druid.reading("x") == Reading()


def test_a_hand_off_names_the_groups() -> None:
    cluster = Druid({"POST /supervisor/x/taskGroups/handoff": httpx.Response(200)})
    cluster.druid.hand_off("x", range(2))
    assert cluster.asked == ["POST /supervisor/x/taskGroups/handoff"]


def _status(code: str, reason: str | None = None) -> dict[str, Any]:
    return {"task": TASK, "status": {"id": TASK, "statusCode": code, "status": code, "errorMsg": reason}}


def test_a_task_that_druid_has_already_is_success() -> None:
    exists = httpx.Response(
        400, json={"errorCode": "entryAlreadyExists", "errorMessage": f"Task[{TASK}] already exists"}
    )
    cluster = Druid({"POST /task": exists, f"GET /task/{TASK}/status": _status("RUNNING")})
    cluster.druid.submit_task({"id": TASK})
    assert cluster.druid.task_state(TASK) == "RUNNING"


def test_a_task_that_druid_refuses_is_no_success() -> None:
    refused = httpx.Response(400, json={"errorMessage": "no such type"})
    with pytest.raises(PenstockError, match="no such type"):
        Druid({"POST /task": refused}).druid.submit_task({"id": TASK})
    assert Druid({}).druid.task_state(TASK) is None


def test_a_failed_task_says_why() -> None:
    cluster = Druid({f"GET /task/{TASK}/status": _status("FAILED", "the disk is full")})
    assert cluster.druid.task_failure(TASK) == "the disk is full"


def test_totals_are_by_segment_and_nothing_where_no_row_ever_was(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Druid({})
    asked: list[str] = []

    def sql(query: str, parameters: Any = None) -> list[dict[str, Any]]:
        asked.append(query)
        return [{"s": 0, "n": 2, "e": 5}]

    monkeypatch.setattr(cluster.druid, "sql", sql)
    assert cluster.druid.totals("x", 0, 86_400_000, "day") == {0: (2, 5)}
    assert "TIME_FLOOR(__time, 'P1D')" in asked[0]

    def absent(query: str, parameters: Any = None) -> list[dict[str, Any]]:
        raise NoDatasourceError("Druid has no such datasource (yet): x")

    monkeypatch.setattr(cluster.druid, "sql", absent)
    assert cluster.druid.totals("x", 0, 1, "hour") == {}

    def away(query: str, parameters: Any = None) -> list[dict[str, Any]]:
        raise UnavailableError("Druid's broker does not answer")

    monkeypatch.setattr(cluster.druid, "sql", away)
    with pytest.raises(UnavailableError):
        cluster.druid.totals("x", 0, 1, "hour")


def test_sums_are_of_the_columns_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, asked, rows = Druid({}), [], [3]

    def sql(query: str, parameters: Any = None) -> list[dict[str, Any]]:
        asked.append(query)
        if "INFORMATION_SCHEMA" in query:
            assert parameters == {"name": "x"}
            return [{"c": "clicks"}, {"c": "_rows"}]
        return [{"clicks": 7 if rows[0] else 0, "_n": rows[0]}]

    monkeypatch.setattr(cluster.druid, "sql", sql)
    assert cluster.druid.sums("x", 0, 60_000, ["clicks", "new"]) == {"clicks": 7}
    assert "__time < MILLIS_TO_TIMESTAMP(60000)" in asked[-1] and "new" not in asked[-1]
    rows[0] = 0  # the sum of no row is none
    assert cluster.druid.sums("x", 0, 60_000, ["clicks"]) == {}
    assert cluster.druid.sums("x", 0, 60_000, ["new"]) == {}


def test_ends_of_segments_are_written_as_druid_does() -> None:
    assert module._iso(1_704_067_200_000) == "2024-01-01T00:00:00.000Z"


def test_a_job_is_deployed_with_its_last_task() -> None:
    vertices = [{"start-time": 98}, {"start-time": 99}, {"start-time": -1}]
    assert Flink({f"GET /jobs/{JOB}": {"vertices": vertices}}).flink.deployed(JOB) == 99
    assert Flink({f"GET /jobs/{JOB}": {"vertices": []}}).flink.deployed(JOB) == 0


def test_restores_of_a_job_are_counted_and_dated() -> None:
    stats = {"counts": {"restored": 2}, "latest": {"restored": {"id": 7, "restore_timestamp": 99}}}
    assert Flink({f"GET /jobs/{JOB}/checkpoints": stats}).flink.restored(JOB) == (2, 99)
    never = {"counts": {"restored": 0}, "latest": {"restored": None}}
    assert Flink({f"GET /jobs/{JOB}/checkpoints": never}).flink.restored(JOB) == (0, 0)


def test_records_read_are_those_of_the_sources() -> None:
    vertices = [
        {"name": "Source: source[1] -> Calc[2]", "metrics": {"read-records": 60000}},
        {"name": "HashAggregate[7] -> Sink: Filesystem", "metrics": {"read-records": 34340}},
    ]
    assert Flink({f"GET /jobs/{JOB}": {"vertices": vertices}}).flink.records_read(JOB) == 60000
