"""Druid's APIs as they answer (33.0.0), without a cluster; SQL through pydruid against a small HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from penstock.errors import NoDatasourceError, PenstockError, UnavailableError, WaitTimeoutError
from penstock.services.druid import Druid, error_text
from penstock.settings import DruidSettings

INDEXER = "/druid/indexer/v1"


def supervisor(name: str = "x", **more: Any) -> dict[str, Any]:
    spec = {"type": "kafka", "context": {"penstock": "abc"}, "suspended": False}
    return {"id": name, "state": "RUNNING", "detailedState": "RUNNING", "healthy": True, "spec": spec} | more


class Turns(list[Any]):
    """Answers in turn; the last one stays."""


class Cluster:
    """Answers by method and path, and notes what was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        settings = DruidSettings(coordinator="http://127.0.0.1:1", broker="http://127.0.0.1:1")
        self.druid = Druid(settings, transport=httpx.MockTransport(self))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        key = f"{request.method} {request.url.path.removeprefix(INDEXER)}"
        self.asked.append(key)
        answer = self.answers.get(key)
        if isinstance(answer, Turns):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if answer is None:
            return httpx.Response(404, json={"error": "not found"})
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.wait.time.sleep", lambda seconds: None)


def status(active: int, publishing: int) -> dict[str, Any]:
    return {"payload": {"activeTasks": [{}] * active, "publishingTasks": [{}] * publishing}}


def tasks(*states: str) -> list[dict[str, Any]]:
    return [{"id": f"t{number}", "statusCode": state} for number, state in enumerate(states)]


def test_supervisors_by_name() -> None:
    listed = [supervisor(), supervisor("y", suspended=True, state="SUSPENDED"), supervisor("z", healthy=False)]
    found = Cluster({"GET /supervisor": listed}).druid.supervisors()
    assert [found[name].running for name in "xyz"] == [True, False, False]
    assert [found[name].suspended for name in "xyz"] == [False, True, False]
    assert found["x"].context == {"penstock": "abc"}


def test_suspending_waits_until_the_tasks_have_published() -> None:
    cluster = Cluster(
        {
            "GET /supervisor": [supervisor()],
            "POST /supervisor/x/suspend": {"id": "x"},
            "GET /supervisor/x/status": status(0, 0),  # just suspended: it has not looked for its tasks yet
            "GET /tasks": Turns([tasks("RUNNING", "RUNNING"), tasks("RUNNING", "SUCCESS"), tasks("FAILED")]),
        }
    )
    cluster.druid.suspend("x")
    assert cluster.asked.count("POST /supervisor/x/suspend") == 1
    assert cluster.asked.count("GET /tasks") == 3


def test_suspending_a_suspended_one_is_success_and_an_unknown_one_is_not() -> None:
    answers = {"GET /supervisor": [supervisor(suspended=True)], "GET /tasks": []}
    cluster = Cluster(answers)
    cluster.druid.suspend("x")
    assert "POST /supervisor/x/suspend" not in cluster.asked
    with pytest.raises(PenstockError, match="no supervisor 'y'"):
        cluster.druid.resume("y")


def test_tasks_that_never_publish_are_a_timeout() -> None:
    answers = {"GET /supervisor": [supervisor(suspended=True)], "GET /tasks": tasks("RUNNING", "RUNNING")}
    with pytest.raises(WaitTimeoutError, match="2 tasks have not published"):
        Cluster(answers).druid.suspend("x", timeout=0)


def test_a_dropped_datasource_leaves_no_segment_behind() -> None:
    states = Turns([{"status": {"statusCode": code}} for code in ("RUNNING", "SUCCESS")])

    class Killing(Cluster):
        def __call__(self, request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/status"):
                return httpx.Response(200, json=states.pop(0))
            if request.method == "POST":
                self.posted = json.loads(request.content)
            return super().__call__(request)

    cluster = Killing({"DELETE /druid/coordinator/v1/datasources/x": {}, "POST /task": {"task": "t"}})
    cluster.druid.drop_datasource("x")
    assert cluster.asked == ["DELETE /druid/coordinator/v1/datasources/x", "POST /task"]
    assert (cluster.posted["type"], cluster.posted["dataSource"]) == ("kill", "x")
    assert not states, "it is awaited"


def test_terminating_an_absent_one_is_success() -> None:
    cluster = Cluster({"GET /supervisor": []})
    cluster.druid.terminate("x")
    assert cluster.asked == ["GET /supervisor"]


def test_a_problem_is_the_newest_error() -> None:
    errors = [
        {"timestamp": "2026-01-01T00:00:01Z", "exceptionClass": "A", "message": "older"},
        {"timestamp": "2026-01-01T00:00:02Z", "exceptionClass": "B", "message": "no such\n  topic"},
    ]
    answers: dict[str, Any] = {"GET /supervisor/x/status": {"payload": {"recentErrors": errors}}}
    assert Cluster(answers).druid.problem("x") == "no such topic"
    tasks = [{"id": "t1", "statusCode": "SUCCESS"}, {"id": "t2", "statusCode": "FAILED", "errorMsg": "short..."}]
    report = {"ingestionStatsAndErrors": {"payload": {"errorMsg": "Max parse exceptions [0] exceeded"}}}
    answers = {
        "GET /supervisor/x/status": {"payload": {"recentErrors": []}},
        "GET /tasks": httpx.Response(200, json=tasks),
        "GET /task/t2/reports": report,
    }
    assert Cluster(answers).druid.problem("x") == "t2: Max parse exceptions [0] exceeded"


def test_refusals_are_one_line() -> None:
    refused = httpx.Response(400, json={"error": "druidException", "errorMessage": "Cannot\n parse spec"})
    with pytest.raises(PenstockError, match=r"refused POST .*supervisor \(400\): Cannot parse spec$"):
        Cluster({"POST /supervisor": refused}).druid.post_supervisor({})
    assert error_text("plain\ntext") == "plain text"
    assert error_text('{"error": "short"}') == "short"


def test_a_cluster_that_is_down_is_one_message() -> None:
    druid = Druid(DruidSettings(coordinator="http://127.0.0.1:9", broker="http://127.0.0.1:9"))
    with pytest.raises(UnavailableError, match=r"Druid's coordinator does not answer at http://127\.0\.0\.1:9"):
        druid.supervisors()
    with pytest.raises(UnavailableError, match=r"Druid's broker does not answer at http://127\.0\.0\.1:9"):
        druid.sql("SELECT 1")


class Broker:
    """A broker that gives one answer; `queries` are the bodies it was sent."""

    def __init__(self) -> None:
        self.answer: tuple[int, str] = (200, "[]")
        self.queries: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.queries.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                code, body = outer.answer
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.druid = Druid(DruidSettings(broker=f"http://127.0.0.1:{self.server.server_address[1]}"))


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_sql_gives_rows_with_the_columns_names(broker: Broker) -> None:
    rows = [{"origin": None, "n": None}, {"origin": 'J"}FK', "n": 3}, {"origin": "LGA", "n": 4.5}]
    broker.answer = (200, json.dumps(rows))
    found = broker.druid.sql("SELECT origin, COUNT(*) AS n FROM x WHERE a = %(a)s", {"a": "it's"})
    assert found == rows[1:], "the first row of Druid's answer is the header"
    assert broker.queries[0]["query"].endswith("a = 'it''s'")
    assert broker.queries[0]["context"]["sqlTimeZone"] == "Etc/UTC"
    assert broker.queries[0]["header"] is True


def test_sql_without_rows_is_empty(broker: Broker) -> None:
    broker.answer = (200, json.dumps([{"n": None}]))
    assert broker.druid.sql("SELECT n FROM x") == []


def test_a_proxy_of_the_environment_is_no_way_to_this_machine(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert broker.druid.sql("SELECT 1") == []


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (400, "Object 'x' not found within 'druid' (line [1], column [15])", NoDatasourceError),
        (400, "Column 'y' not found in any table", PenstockError),
        (504, "Query did not complete within configured timeout period. QUERY TIMEOUT", UnavailableError),
        (500, "Unknown exception (RUNTIME_FAILURE): Connection reset", UnavailableError),
    ],
)
def test_sql_errors(broker: Broker, code: int, message: str, kind: type[PenstockError]) -> None:
    broker.answer = (
        code,
        json.dumps({"error": "druidException", "errorMessage": message, "category": "INVALID_INPUT"}),
    )
    with pytest.raises(kind) as caught:
        broker.druid.sql("SELECT")
    assert type(caught.value) is kind
    assert message in caught.value.message
