"""Vital signs from the services' own answers; a service that is away leaves the others' figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from penstock.errors import NoDatasourceError, PenstockError, UnavailableError
from penstock.generation import launch_to_json
from penstock.pipeline import Launch
from penstock.services.airflow import Airflow
from penstock.services.druid import Supervisor
from penstock.services.flink import NO_WATERMARK, Job
from penstock.services.registry import Record
from penstock.settings import Environment
from penstock.vitals import flink as figures
from penstock.vitals.gather import Sources, gather
from penstock.vitals.model import Run, Served, Task, Vitals
from tests.unit.memory import windowed

PIPELINE = windowed(name="clicks")
ENV = Environment(name="test")
SOURCE = "Source__KafkaSource-default_catalog_default_database_source"

#: As Flink 2.2 names them, for two subtasks.
METRICS = {
    f"0.{SOURCE}.split.web_clicked_v1-0.watermark.currentWatermark": 1000.0,
    f"0.{SOURCE}.split.web_clicked_v1-0.watermark.idleTimeMsPerSecond": 0.0,
    f"1.{SOURCE}.split.web_clicked_v1-1.watermark.currentWatermark": float(NO_WATERMARK),
    f"1.{SOURCE}.split.web_clicked_v1-1.watermark.idleTimeMsPerSecond": 1000.0,
    f"0.{SOURCE}.KafkaSourceReader.topic.web_clicked_v1.partition.0.currentOffset": 41.0,
    f"1.{SOURCE}.KafkaSourceReader.topic.web_clicked_v1.partition.1.currentOffset": -1.0,
    f"0.{SOURCE}.numRecordsIn": 40.0,
    f"1.{SOURCE}.numRecordsIn": 2.0,
    f"0.{SOURCE}.numRecordsInPerSecond": 1.5,
    f"0.{SOURCE}.KafkaSourceReader.KafkaConsumer.records-consumed-total": 99.0,
    "0.source[1].numRecordsIn": 77.0,
    "0.numRecordsIn": 77.0,
    "0.late[9]__Writer.numRecordsIn": 3.0,
    "1.late[9]__Writer.numRecordsIn": 1.0,
    "0.late[9]__Committer.numRecordsIn": 50.0,
    "0.dlq[11]__Writer.numRecordsIn": 2.0,
    "0.out[7]__Writer.numRecordsIn": 8.0,
    "0.GlobalWindowAggregate[5].numLateRecordsDropped": 1.0,
}
BUSY = {
    "status": "ok",
    "subtasks": [{"ratio": 0.1, "busyRatio": 0.4}, {"ratio": 0.3, "busyRatio": float("nan")}],
}
STATS = {
    "counts": {"completed": 5, "failed": 2, "restored": 1},
    "latest": {
        "completed": {"id": 7, "latest_ack_timestamp": 9_000, "end_to_end_duration": 80, "state_size": 2_048},
        "failed": {"id": 8},
    },
}


class Flink:
    def __init__(self, *jobs: Job) -> None:
        self._jobs = list(jobs)

    def jobs(self) -> list[Job]:
        return self._jobs

    def detail(self, job_id: str) -> Mapping[str, Any]:
        return {"vertices": [{"id": "v", "name": "Source: KafkaSource-a.b.source -> source[1] -> late[9]: Writer"}]}

    def metrics(self, job_id: str, vertex: str, wanted: Callable[[str], bool]) -> dict[str, float]:
        return {name: value for name, value in METRICS.items() if wanted(name)}

    def backpressure(self, job_id: str, vertex: str) -> Mapping[str, Any]:
        return BUSY

    def checkpoint_stats(self, job_id: str) -> Mapping[str, Any]:
        return STATS


class Kafka:
    def __init__(self, stream: str = "clicks") -> None:
        self.stream = stream

    def start_offsets(self, topic: str) -> dict[int, int]:
        return {0: 10, 1: 0}

    def end_offsets(self, topic: str, *, committed: bool) -> dict[int, int]:
        assert committed, "an open transaction can't be read"
        return {0: 44, 1: 7}

    def group_offsets(self, group: str, topic: str) -> dict[int, int]:
        assert group == f"penstock-test-{self.stream}"
        return {0: 30, 1: 6}

    def read(self, topic: str, start: Mapping[int, int], end: Mapping[int, int]) -> list[list[Any]]:
        """Of four offsets two are records, in two batches: the others are markers."""
        assert (topic, start, end) == (f"penstock.{self.stream}.out", {0: 40}, {0: 44})
        return [["one"], ["two"]]


class Druid:
    def __init__(self, **supervisors: Supervisor) -> None:
        self._supervisors = supervisors
        self.rows: list[dict[str, Any]] | None = [{"n": 12, "newest": 400, "served": 700}]
        self.tasks: list[dict[str, Any]] = [{"currentOffsets": {"0": 40, "1": 7}}, {"currentOffsets": None}]

    def supervisors(self) -> dict[str, Supervisor]:
        return self._supervisors

    def supervisor_status(self, name: str) -> Mapping[str, Any]:
        return {"activeTasks": self.tasks}

    def sql(self, query: str) -> list[dict[str, Any]]:
        assert 'MAX("window_end")' in query
        if self.rows is None:
            raise NoDatasourceError("no such datasource")
        return self.rows


class Applied:
    """A registry that knows the pipeline, of one generation."""

    def __init__(self, launch: Launch | None = None) -> None:
        self.record = Record("clicks", launch=launch_to_json(launch))

    def read(self) -> dict[str, Record]:
        return {"clicks": self.record}


class Runs:
    def runs(self, pipeline: str) -> list[Run]:
        return [Run(f"penstock.{pipeline}", "r", "success")]


class Away:
    """A service that does not answer, whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        def ask(*_: Any, **__: Any) -> Any:
            raise UnavailableError("does not answer")

        return ask


LIVE = Job("ab12", "penstock.clicks", "RUNNING", started=100, running_tasks=2, total_tasks=2)
RUNNING = Supervisor("clicks", "RUNNING")


def look(**others: Any) -> Vitals:
    whole: dict[str, Any] = {"kafka": Kafka(), "flink": Flink(LIVE), "druid": Druid(clicks=RUNNING)}
    whole |= {"registry": Applied(), "airflow": Runs()}
    return gather(PIPELINE, ENV, Sources(**(whole | others)), clock=lambda: 10.0)


def test_of_a_second_generation_its_own_job_group_and_topics_are_asked() -> None:
    again = replace(LIVE, id="cd34", name="penstock.clicks.1")
    launch = Launch(1, 0, 0, ((0, 0),), ((0, 0),))
    found = look(kafka=Kafka("clicks.1"), flink=Flink(LIVE, again), registry=Applied(launch))
    assert found.problems == {}
    assert found.job is not None and found.job.id == "cd34"
    assert list(found.kept) == ["penstock.clicks.1.late", "penstock.clicks.1.dlq"]
    assert (found.pipeline, found.served and found.served.behind) == ("clicks", 2)


def test_all_figures_of_a_running_pipeline() -> None:
    found = look()
    assert found.problems == {}
    assert (found.at, found.job and found.job.state, found.job and found.job.started) == (10_000, "RUNNING", 100)
    assert found.job is not None
    records = found.job.records
    assert (records.read, records.out, records.late, records.dead_lettered) == (42, 8, 4, 2)
    assert (records.dropped, records.per_second) == (1, 1.5)
    assert found.job.tasks == (Task("source > late", busy=0.4, backpressured=0.3),)
    assert found.kept == {"penstock.clicks.late": 41, "penstock.clicks.dlq": 41}
    assert found.served == Served("RUNNING", healthy=True, rows=12, newest=400, served_to=700, behind=2)
    assert [run.id for run in found.runs] == ["r"]


def test_positions_and_watermarks_of_the_partitions() -> None:
    first, second = look().partitions
    assert (first.position, first.lag, first.watermark, first.idle) == (42, 2, 1000, False)
    # Nothing read since the start: the job stands where its checkpoint put it.
    assert (second.position, second.lag, second.watermark, second.idle) == (6, 1, None, True)
    assert figures.positions(METRICS, {}) == {0: 42}, "nor is it known where that was"


def test_checkpoints_tell_a_failure_after_the_newest() -> None:
    found = look().job
    assert found is not None
    done = found.checkpoints
    assert (done.completed, done.failed, done.restored) == (5, 2, 1)
    assert (done.completed_at, done.duration, done.size, done.last_failed) == (9_000, 80, 2_048, True)


@pytest.mark.parametrize("service", ["kafka", "flink", "druid", "airflow"])
def test_one_that_is_away_is_named_and_the_others_are_shown(service: str) -> None:
    found = look(**{service: Away()})
    assert "does not answer" in found.problems[service.capitalize()]
    assert (found.job is None) == (service == "flink")
    assert bool(found.runs) == (service != "airflow")
    assert bool(found.kept) == (service != "kafka")
    if service in ("flink", "airflow"):
        assert set(found.problems) == {service.capitalize()}
        assert found.served is not None


def test_without_a_job_the_log_is_still_told() -> None:
    ended = Job("ab12", "penstock.clicks", "FINISHED", started=100, ended=200)
    other = Job("cd34", "penstock.other", "RUNNING", running_tasks=2, total_tasks=2)
    found = look(flink=Flink(ended, other))
    assert found.job is None
    assert [item.position for item in found.partitions] == [30, 6]


def test_a_job_whose_tasks_are_being_deployed_is_not_running_yet() -> None:
    found = look(flink=Flink(Job("ab12", "penstock.clicks", "RUNNING", running_tasks=1, total_tasks=2))).job
    assert found is not None
    assert found.state == "STARTING"


def test_what_druid_has_not_read_is_counted_without_markers_where_that_is_quick() -> None:
    druid = Druid(clicks=RUNNING)

    class Far(Kafka):
        def end_offsets(self, topic: str, *, committed: bool) -> dict[int, int]:
            return {0: 5_000, 1: 7}

    found = look(druid=druid, kafka=Far()).served
    assert found is not None and found.behind == 4_960
    druid.tasks = [{"currentOffsets": {"0": 44, "1": 9}}]
    found = look(druid=druid).served
    assert found is not None and found.behind == 0


def test_druid_before_its_first_row_without_tasks_and_suspended() -> None:
    druid = Druid(clicks=Supervisor("clicks", "RUNNING", suspended=True))
    druid.rows, druid.tasks = None, []
    assert look(druid=druid).served == Served("SUSPENDED", healthy=False, rows=0, behind=None)
    assert look(druid=Druid()).served == Served("absent", healthy=False)


def test_shares_are_unknown_until_flink_has_a_sample() -> None:
    assert figures.task("Calc[6]", {"status": "deprecated"}) == Task("Calc")


def test_a_job_before_its_first_checkpoint() -> None:
    found = figures.checkpoints({"counts": {"completed": 0}, "latest": {"completed": None, "failed": {"id": 1}}})
    assert (found.completed_at, found.last_failed) == (None, True)
    assert figures.checkpoints({}).last_failed is False


def airflow(answer: Callable[[httpx.Request], httpx.Response]) -> Airflow:
    return Airflow("http://127.0.0.1:1", "admin", "secret", transport=httpx.MockTransport(answer))


def test_runs_are_those_of_the_pipeline_newest_first() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            assert b'"secret"' in request.content
            return httpx.Response(201, json={"access_token": "t"})
        assert request.headers["authorization"] == "Bearer t"
        assert request.url.params["order_by"] == "-run_after"
        began = {"start_date": "2026-01-01T00:00:01Z", "end_date": None}
        mine = {"dag_id": "penstock.clicks", "dag_run_id": "a", "state": "running", "conf": {}, **began}
        replay = {"dag_id": "penstock_replay", "dag_run_id": "b", "state": "failed", "conf": {"pipeline": "clicks"}}
        other = {"dag_id": "penstock_replay", "dag_run_id": "c", "state": "failed", "conf": {"pipeline": "other"}}
        foreign = {"dag_id": "penstock.clicks2", "dag_run_id": "d", "state": "failed", "conf": None}
        return httpx.Response(200, json={"dag_runs": [mine, other, foreign, replay]})

    first, second = airflow(answer).runs("clicks")
    assert first == Run("penstock.clicks", "a", "running", started=1_767_225_601_000)
    assert (second.dag, second.id, second.started) == ("penstock_replay", "b", None)


def test_a_refused_login_is_told_with_the_reason() -> None:
    with pytest.raises(PenstockError, match=r"Airflow at .* refused POST /auth/token \(401\): Invalid credentials"):
        airflow(lambda _: httpx.Response(401, json={"detail": "Invalid credentials"})).runs("clicks")
