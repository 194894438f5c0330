"""Flink's REST API as it answers (2.2.1), without a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.errors import PenstockError, UnavailableError, WaitTimeoutError
from penstock.services import flink as module
from penstock.services.flink import NO_WATERMARK, Flink, RestorePoint, newest_state, root_cause
from penstock.settings import FlinkSettings

JOB = "a18ccd02dd6fcf4ed90f2aa41c3036d9"
TRACE = (
    "java.util.concurrent.CompletionException: it failed\n\tat x.Y.z(Y.java:1)\n"
    "Caused by: org.apache.flink.util.FlinkException: between\n\t... 3 more\n"
    "Caused by: java.lang.IllegalStateException: the root\n\tat a.B.c(B.java:2)\n"
)

Handler = Callable[[httpx.Request], httpx.Response]


def job(state: str = "RUNNING", running: int = 4, total: int = 4, **more: Any) -> dict[str, Any]:
    tasks = {"running": running, "total": total}
    return {"jid": JOB, "name": "penstock.x", "state": state, "start-time": 5, "end-time": -1, "tasks": tasks} | more


class Turns(list[Any]):
    """Answers in turn; the last one stays."""


class Cluster:
    """Answers by method and path."""

    def __init__(self, answers: dict[str, Any], state: str = "") -> None:
        self.answers = answers
        self.asked: list[tuple[str, Any]] = []
        self.flink = Flink(FlinkSettings(rest="http://127.0.0.1:1", state=state), transport=httpx.MockTransport(self))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        key = f"{request.method} {request.url.path}"
        self.asked.append((key, json.loads(request.content) if request.content else dict(request.url.params)))
        answer = self.answers.get(key)
        if isinstance(answer, Turns):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if answer is None:
            return httpx.Response(404, json={"errors": ["not found"]})
        if isinstance(answer, httpx.Response):
            return answer
        return httpx.Response(200, json=answer)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.wait.time.sleep", lambda seconds: None)


def test_jobs_are_newest_first_and_know_when_they_run() -> None:
    listed = [job(), job(jid="b" * 32, state="FAILED", **{"start-time": 9, "end-time": 10}), job(running=3)]
    first, second, third = Cluster({"GET /jobs/overview": {"jobs": listed}}).flink.jobs()
    assert (first.id, first.live, first.ended) == ("b" * 32, False, 10)
    assert (second.live, second.running, second.ended) == (True, True, None)
    assert not third.running, "RUNNING while a task is being deployed"


def test_a_cluster_that_is_down_is_one_message() -> None:
    flink = Flink(FlinkSettings(rest="http://127.0.0.1:9"))
    with pytest.raises(UnavailableError, match=r"Flink does not answer at http://127\.0\.0\.1:9: ") as caught:
        flink.jobs()
    assert "penstock status" in (caught.value.hint or "")


def test_a_cluster_that_is_slow_is_one_message() -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("timed out", request=request)

    flink = Flink(FlinkSettings(), transport=httpx.MockTransport(slow))
    with pytest.raises(UnavailableError, match=r"Flink gave no answer at http://127\.0\.0\.1:19081 in 30 s"):
        flink.jobs()


@pytest.mark.parametrize(("status", "kind"), [(503, UnavailableError), (500, UnavailableError), (400, PenstockError)])
def test_an_error_answer_is_its_root_cause(status: int, kind: type[PenstockError]) -> None:
    answer = httpx.Response(status, json={"errors": ["Internal server error.", TRACE]})
    with pytest.raises(kind, match=r": java\.lang\.IllegalStateException: the root\b") as caught:
        Cluster({"GET /jobs/overview": answer}).flink.jobs()
    assert type(caught.value) is kind


def test_something_else_on_the_port_is_said() -> None:
    with pytest.raises(UnavailableError, match="no JSON"):
        Cluster({"GET /jobs/overview": httpx.Response(200, text="<html>")}).flink.jobs()


def test_stop_waits_for_the_end_and_gives_the_savepoint() -> None:
    done = {"status": {"id": "COMPLETED"}, "operation": {"location": "s3://x/savepoint-a18ccd-1"}}
    cluster = Cluster(
        {
            "GET /jobs/overview": Turns([{"jobs": [job()]}] * 4 + [{"jobs": [job("FINISHED")]}]),
            f"POST /jobs/{JOB}/stop": httpx.Response(202, json={"request-id": "r1"}),
            f"GET /jobs/{JOB}/savepoints/r1": Turns([{"status": {"id": "IN_PROGRESS"}}, done]),
            f"GET /jobs/{JOB}/checkpoints": {
                "counts": {"completed": 7},
                "latest": {
                    "completed": {"id": 6, "external_path": "s3://x/chk-6", "discarded": True},
                    "savepoint": {"id": 7, "external_path": "s3://x/savepoint-a18ccd-1"},
                },
            },
        }
    )
    assert cluster.flink.stop_with_savepoint(JOB, "s3://x") == "s3://x/savepoint-a18ccd-1"
    sent = [body for key, body in cluster.asked if key.startswith("POST")]
    assert sent == [{"targetDirectory": "s3://x", "drain": False, "formatType": "CANONICAL"}], "asked once"


def test_stop_of_a_stopped_job_gives_its_savepoint(tmp_path: Path) -> None:
    folder = tmp_path / "savepoints" / "x" / f"savepoint-{JOB[:6]}-abc"
    folder.mkdir(parents=True)
    (folder / "_metadata").touch()
    cluster = Cluster({"GET /jobs/overview": {"jobs": []}}, state=tmp_path.as_uri())
    assert cluster.flink.stop_with_savepoint(JOB, folder.parent.as_uri()) == folder.as_uri()
    assert not [key for key, _ in cluster.asked if key.startswith("POST")]


def test_a_savepoint_that_fails_is_tried_again_until_the_deadline() -> None:
    failed = {"status": {"id": "COMPLETED"}, "operation": {"failure-cause": {"class": "E", "stack-trace": TRACE}}}
    cluster = Cluster(
        {
            "GET /jobs/overview": {"jobs": [job("RESTARTING", 0)]},
            f"POST /jobs/{JOB}/stop": httpx.Response(202, json={"request-id": "r1"}),
            f"GET /jobs/{JOB}/savepoints/r1": failed,
            f"GET /jobs/{JOB}/exceptions": {"exceptionHistory": {"entries": [{"stacktrace": "x.Y: no broker"}]}},
        }
    )
    with pytest.raises(
        WaitTimeoutError, match=r"RESTARTING, the savepoint failed: .*the root \(x\.Y: no broker\)"
    ) as caught:
        cluster.flink.stop_with_savepoint(JOB, "s3://x", timeout=0.5)
    assert "--cancel" in (caught.value.hint or "")
    assert len([key for key, _ in cluster.asked if key.startswith("POST")]) > 1


def test_cancel_is_asked_until_the_job_has_ended() -> None:
    cluster = Cluster(
        {
            "GET /jobs/overview": Turns([{"jobs": [job(state)]} for state in ("RUNNING", "CANCELLING", "CANCELED")]),
            f"PATCH /jobs/{JOB}": httpx.Response(202, json={}),
        }
    )
    cluster.flink.cancel(JOB)
    assert [body for key, body in cluster.asked if key.startswith("PATCH")] == [{"mode": "cancel"}]


def test_a_checkpoint_is_awaited() -> None:
    path = f"/jobs/{JOB}/checkpoints"
    done = {"status": {"id": "COMPLETED"}, "operation": {"checkpointId": 12, "failureCause": None}}
    answers: dict[str, Any] = {
        f"POST {path}": httpx.Response(202, json={"request-id": "r"}),
        f"GET {path}/r": Turns([{"status": {"id": "IN_PROGRESS"}, "operation": None}, done]),
    }
    assert Cluster(answers).flink.trigger_checkpoint(JOB) == 12
    failed = {"checkpointId": None, "failureCause": {"class": "E", "stack-trace": TRACE}}
    answers[f"GET {path}/r"] = {"status": {"id": "COMPLETED"}, "operation": failed}
    with pytest.raises(PenstockError, match=r"the checkpoint failed: .*the root"):
        Cluster(answers).flink.trigger_checkpoint(JOB)


def test_watermarks_are_the_least_of_the_subtasks() -> None:
    def vertex(identity: str, *values: int) -> tuple[str, Any]:
        listed = [{"id": f"{n}.currentInputWatermark", "value": str(value)} for n, value in enumerate(values)]
        return f"GET /jobs/{JOB}/vertices/{identity}/watermarks", listed

    names = {"s": "source", "w": "window", "o": "out"}
    detail = {"vertices": [{"id": key, "name": name} for key, name in names.items()]}
    answers = dict([vertex("s"), vertex("w", 30, 20), vertex("o", 40, 50), (f"GET /jobs/{JOB}", detail)])
    assert Cluster(answers).flink.watermarks(JOB) == {"window": 20, "out": 40}
    assert Cluster(answers).flink.watermark(JOB) == 20
    answers.update([vertex("o", 40, NO_WATERMARK)])
    assert Cluster(answers).flink.watermark(JOB) is None, "one vertex has none yet"
    answers.update([vertex("w"), vertex("o")])
    assert Cluster(answers).flink.watermark(JOB) is None


def stats(count: int, again: int = 0, **latest: Any) -> dict[str, Any]:
    return {f"GET /jobs/{JOB}/checkpoints": {"counts": {"completed": count, "restored": again}, "latest": latest}}


def test_where_an_ended_job_resumes_by_flinks_own_record() -> None:
    newest = stats(
        9,
        completed={"id": 9, "external_path": "s3://x/chk-9"},
        savepoint={"id": 4, "external_path": "s3://x/savepoint"},
        restored={"id": 2, "external_path": "s3://x/chk-2"},
    )
    assert Cluster(newest).flink.restore_point(JOB) == RestorePoint("s3://x/chk-9")
    restored = stats(0, 1, completed=None, restored={"id": 2, "external_path": "s3://x/chk-2"})
    assert Cluster(restored).flink.restore_point(JOB) == RestorePoint("s3://x/chk-2")
    assert Cluster(stats(0)).flink.restore_point(JOB) == RestorePoint(never=True)
    gone = stats(3, completed={"id": 3, "external_path": "<checkpoint-not-externally-addressable>"})
    assert Cluster(gone).flink.restore_point(JOB) == RestorePoint()
    assert Cluster({}).flink.restore_point(JOB) == RestorePoint(unseen=True), "an unknown job proves nothing"


def test_files_that_can_be_seen_decide(tmp_path: Path) -> None:
    latest = {"completed": {"id": 9, "external_path": "file:/gone/chk-9"}}
    home = tmp_path / "checkpoints" / JOB
    for name, complete in (("chk-8", True), ("chk-10", False)):
        (home / name).mkdir(parents=True)
        if complete:
            (home / name / "_metadata").touch()
    cluster = Cluster(stats(9, **latest), state=tmp_path.as_uri())
    assert cluster.flink.restore_point(JOB) == RestorePoint((home / "chk-8").as_uri())
    (home / "chk-8" / "_metadata").unlink()
    assert cluster.flink.restore_point(JOB) == RestorePoint(None, never=False)


@pytest.mark.parametrize(
    ("restored", "never"),
    [
        ("file:/flink/savepoints/sales/savepoint-0f0f0f-1", True),
        (f"file:/flink/checkpoints/{JOB}/chk-7", False),  # by a restarted JobManager, which counts from 0 again
        ("<checkpoint-not-externally-addressable>", False),
        (None, False),
    ],
)
def test_a_job_that_did_nothing_since_its_savepoint_is_known(restored: str | None, never: bool, tmp_path: Path) -> None:
    cluster = Cluster(stats(0, 1, restored={"id": 7, "external_path": restored}), state=tmp_path.as_uri())
    assert cluster.flink.restore_point(JOB) == RestorePoint(None, never=never)


def test_where_no_job_has_ever_left_a_state_its_absence_is_seen(tmp_path: Path) -> None:
    assert Cluster({}, state=tmp_path.as_uri()).flink.restore_point(JOB) == RestorePoint(None)
    elsewhere = (tmp_path / "on-another-machine").as_uri()
    assert Cluster({}, state=elsewhere).flink.restore_point(JOB) == RestorePoint(unseen=True)


def test_the_newest_of_checkpoints_and_savepoints_counts(tmp_path: Path) -> None:
    import os

    names = [f"checkpoints/{JOB}/chk-2", f"savepoints/savepoint-{JOB[:6]}-1", "savepoints/savepoint-ffffff-1"]
    for age, name in enumerate(names):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "_metadata").touch()
        os.utime(tmp_path / name / "_metadata", (age, age))
    found = newest_state(JOB, tmp_path / "checkpoints", tmp_path / "savepoints")
    assert found == (tmp_path / names[1]).as_uri()
    assert newest_state("e" * 32, tmp_path / "checkpoints", None) is None


def test_root_causes_are_one_line() -> None:
    assert root_cause(TRACE) == "java.lang.IllegalStateException: the root"
    assert root_cause("x.Y: only this\n\tat z") == "x.Y: only this"
    assert root_cause("") == "no reason given"
    assert len(root_cause("x" * 1000)) == 400


def test_the_module_names_every_live_state() -> None:
    assert {"RUNNING", "RESTARTING", "CREATED", "INITIALIZING", "RECONCILING"} <= module.LIVE
