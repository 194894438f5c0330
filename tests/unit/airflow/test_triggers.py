"""Triggers: they look until it is over, or until the deadline, and cancel only what is the task's own."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

os.environ.setdefault("AIRFLOW__CORE__UNIT_TEST_MODE", "True")

from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from penstock.airflow import triggers
from penstock.airflow.triggers import HealthTrigger, ServiceTrigger, Watch, as_dict, look

JOB = {"jid": "j1", "name": "penstock.sales", "state": "RUNNING", "tasks": {"running": 2, "total": 2}, "end-time": -1}


class Service:
    """One HTTP server that answers as Flink and as Druid do, and notes what changes something."""

    def __init__(self) -> None:
        self.job: dict[str, Any] = dict(JOB)
        self.task = "RUNNING"
        self.supervisor = "PENDING"
        self.changes: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                if self.command != "GET":
                    owner.changes.append(f"{self.command} {self.path}")
                    owner.job["state"] = "CANCELED"
                body = json.dumps(owner.answer(self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = _answer

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str) -> Any:
        if path.startswith("/jobs"):
            return {"jobs": [self.job]}
        if "/task/" in path:
            return {"status": {"statusCode": self.task}}
        return [{"id": "sales", "state": self.supervisor, "healthy": True, "spec": {}}]

    def watch(self, kind: str, identity: str, *, cancel: bool = False) -> Watch:
        return Watch(kind, identity, self.url, self.url, cancel)


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()


def fire(
    watch: Watch, *, seconds: float = 30, why: str = "", meanwhile: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    path, arguments = ServiceTrigger(as_dict(watch), time.time() + seconds, 0.02, why).serialize()
    assert path == "penstock.airflow.triggers.ServiceTrigger"
    trigger = ServiceTrigger(**json.loads(json.dumps(arguments)))

    async def first() -> Any:
        task = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.2)
        meanwhile()
        return await task

    event = asyncio.run(first())
    assert isinstance(event, TriggerEvent)
    seen = dict(event.payload)
    assert seen.pop("until") == trigger.until
    return seen


def test_a_job_is_over_when_it_has_ended(service: Service) -> None:
    seen = fire(service.watch("job ended", "j1"), meanwhile=lambda: service.job.update(state="FINISHED"))
    assert seen == {"seen": "job j1 is FINISHED"}
    assert look(service.watch("job ended", "gone")) == (False, "job gone is unknown to Flink")


def test_a_start_is_over_when_all_tasks_run_or_it_failed(service: Service) -> None:
    service.job["tasks"]["running"] = 1
    assert not look(service.watch("job running", "j1"))[0]
    service.job["tasks"]["running"] = 2
    assert look(service.watch("job running", "j1"))[0]
    service.job["state"] = "FAILED"
    assert look(service.watch("job running", "j1"))[0]


def test_tasks_and_supervisors(service: Service) -> None:
    assert fire(service.watch("task ended", "t"), meanwhile=lambda: setattr(service, "task", "FAILED")) == {
        "seen": "task t is FAILED"
    }
    assert look(service.watch("supervisor running", "sales")) == (False, "supervisor sales is PENDING")
    service.supervisor = "RUNNING"
    assert look(service.watch("supervisor running", "sales"))[0]
    assert not look(service.watch("supervisor running", "sails"))[0]


def test_a_nap_is_over_by_itself() -> None:
    assert fire(Watch()) == {"seen": "nothing seen yet"}
    assert fire(Watch(), why="another change is under way") == {"seen": "another change is under way"}


def test_at_the_deadline_it_says_what_it_saw_last(service: Service) -> None:
    watch = service.watch("job ended", "j1")
    assert fire(watch, seconds=0.3) == {"seen": "job j1 is RUNNING"}
    assert fire(watch, seconds=0.3, why="the lock is held") == {"seen": "the lock is held; job j1 is RUNNING"}


def test_a_service_that_is_down_is_asked_again(service: Service) -> None:
    down = Watch("job ended", "j1", "http://127.0.0.1:9", "")
    assert "does not answer" in fire(down, seconds=0.4)["seen"]


def test_a_kill_cancels_only_what_nobody_else_needs(service: Service) -> None:
    for watch in (service.watch("job ended", "j1"), service.watch("task ended", "t"), Watch(cancel=True)):
        asyncio.run(ServiceTrigger(as_dict(watch), time.time() + 9).on_kill())
    assert service.changes == []
    asyncio.run(ServiceTrigger(as_dict(service.watch("job ended", "j1", cancel=True)), 0).on_kill())
    asyncio.run(ServiceTrigger(as_dict(service.watch("task ended", "t", cancel=True)), 0).on_kill())
    assert service.changes == ["PATCH /jobs/j1?mode=cancel", "POST /druid/indexer/v1/task/t/shutdown"]


def test_all_is_well_without_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(report: dict[str, Any]) -> Any:
        monkeypatch.setattr(HealthTrigger, "report", lambda self: report)

        async def first() -> Any:
            return await anext(HealthTrigger().run())

        return asyncio.run(first())

    assert isinstance(told({"findings": [], "changed": False}), TaskSuccessEvent)
    for report in ({"findings": [], "changed": True}, {"findings": ["x"], "changed": False}, {"error": "x"}):
        event = told(report)
        assert not isinstance(event, TaskSuccessEvent) and event.payload == report


def test_a_report_says_what_is_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "penstock.toml").write_text("[stack]\nport_base = 1024\n")
    (tmp_path / "jobs").mkdir()
    from penstock import health
    from penstock.health import Finding

    now: list[Finding] = [Finding("sales", "job", "failed", "no more memory")]
    monkeypatch.setattr(health, "look", lambda pipelines, services: list(now))
    trigger = triggers.HealthTrigger(str(tmp_path))
    first, second = trigger.report(), trigger.report()
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["findings"] == second["findings"]
    now.clear()
    assert trigger.report() == {"findings": [], "changed": True}
