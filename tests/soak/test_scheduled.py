"""What only Airflow's own scheduler and triggerer can show: tasks ended by a user or cut off by a crash, schedules.

One small pipeline under the shipped DAGs, in file order: a replay whose task is marked as failed while it computes and
while it is deferred, and goes on although triggerer, scheduler and all workers are killed; the watch on its schedule;
repair, maintenance and stop by their DAGs.
"""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from penstock import stack as native
from penstock.flink.spec import job_name
from penstock.replay.derive import batch_job_id
from penstock.replay.record import Replay
from penstock.services.flink import Flink, Job
from penstock.settings import Settings
from penstock.stack import processes
from penstock.wait import Pending, until

from ..airflow import Api
from .shipped import add_dags, serve_dags
from .visits import PIPELINE, Stage, make

pytestmark = [pytest.mark.e2e, pytest.mark.native]

OWN = f"penstock.{PIPELINE}"
#: The first hour, so slowly that a task is deferred long before it is computed.
SLOWLY = {
    "pipeline": PIPELINE,
    "from": "2024-06-01T00:00:00+00:00",
    "to": "2024-06-01T01:00:00+00:00",
    "rate": 15,
    "reason": "a drill",
}
#: The watch's notifier writes what it hears to a file; DAGs of a user are woken by the datasource and by the topic.
HEAR = """
import json
from pathlib import Path
from airflow.sdk import BaseNotifier

class Hear(BaseNotifier):
    def notify(self, context):
        with Path(__file__).resolve().with_name("heard.jsonl").open("a") as file:
            print(json.dumps(context["findings"]), file=file)

NOTIFIERS = [Hear()]
"""
WOKEN = """
from airflow.sdk import DAG, task
from penstock.airflow.assets import datasource, topic

for name, asset in (("my_report", datasource("visits")), ("my_topics", topic("web.visited.v1"))):
    with DAG(name, schedule=[asset], is_paused_upon_creation=False) as dag:

        @task
        def render() -> str:
            return "something has changed"

        render()
    globals()[name] = dag
"""


@dataclass
class Site:
    """The pipeline, its Airflow, and the drilled replay."""

    stage: Stage
    api: Api

    @property
    def folder(self) -> Path:
        return self.stage.shop.project / "dags"

    def replay(self, run: dict[str, Any]) -> Replay:
        return self.stage.services.replays.read()[self.api.result(run, "begin")]

    def bounded(self, run: dict[str, Any]) -> list[Job]:
        """Return the jobs of a run's replay that Flink knows."""
        identity = self.api.result(run, "begin")
        return [job for job in self.flink.jobs() if job.name.endswith(f".{identity}")]

    @property
    def flink(self) -> Flink:
        return Flink(self.stage.shop.stack.env.flink)

    def computing(self, run: dict[str, Any], state: str) -> Job:
        """Wait until the task `compute` is in a state while its job runs; return the job."""

        def probe() -> Job | Pending:
            states = self.api.states(run)
            if states.get("compute") != state:
                return Pending(str(states))
            if state == "deferred" and not self.taken(run, "compute"):
                return Pending("no triggerer has taken it")
            replay = self.replay(run)
            job = self.flink.job(batch_job_id("native", replay.id, replay.attempt)) if replay.attempt else None
            return job if job is not None and job.running else Pending(f"job {job}")

        return until(f"compute {state}", probe, timeout=240, interval=0.3)

    def taken(self, run: dict[str, Any], task: str) -> bool:
        """Say whether a triggerer looks for a deferred task; nobody hears who marks it sooner (docs/airflow.md)."""
        log = self.api.log(run, task, self.api.task(run, task)["try_number"])
        return bool(re.search(rf"^trigger .*/{task}/.* starting$", log, re.MULTILINE))

    def planners(self) -> list[psutil.Process]:
        """Return the processes that submit jobs."""
        mine = processes.own(self.stage.shop.stack.stack.state)
        return [it for it in mine if "penstock.flink.submit" in it.cmdline()]

    def submitting(self, run: dict[str, Any]) -> None:
        """Wait until the task `compute` submits its job."""

        def probe() -> bool | Pending:
            states = self.api.states(run)
            return (states.get("compute") == "running" and bool(self.planners())) or Pending(str(states))

        until("a submission", probe, timeout=240, interval=0.3)

    def mark_failed(self, run: dict[str, Any], job: Job) -> float:
        """Mark the task as failed, and return after how many seconds its job was cancelled."""
        began = time.monotonic()
        self.api.mark(run, "compute", "failed")

        def ended() -> str | Pending:
            found = self.flink.job(job.id)
            return Pending(found.state) if found is not None and (found.live or found.leaving) else str(found)

        told = until("the job's end", ended, timeout=90, interval=0.3)
        assert "CANCELED" in told
        return time.monotonic() - began

    def kill(self, part: str) -> None:
        """Kill a part of Airflow and all its children with -9."""
        pid = next(it.pid for it in native.status(self.stage.shop.stack) if it.name == part)
        assert pid is not None
        for it in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            it.send_signal(signal.SIGKILL)

    def heard(self) -> list[list[str]]:
        file = self.folder / "heard.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def watched(self, since: set[str], wanted: str) -> Any:
        """Wait for a run of the watch that was not there before, and ended so; return it."""

        def probe() -> dict[str, Any] | Pending:
            runs = self.api.get("/dags/penstock_watch/dagRuns", order_by="-run_after", limit=20)["dag_runs"]
            new = [it for it in runs if it["dag_run_id"] not in since and it["state"] == wanted]
            return new[-1] if new else Pending(str([it["state"] for it in runs]))

        return until("the watch", probe, timeout=200, interval=1)

    def repaired(self) -> dict[str, Any] | Pending:
        """Return a run of the repair that has changed something."""
        runs = self.api.get("/dags/penstock_repair/dagRuns", limit=100)["dag_runs"]
        ended = [it for it in runs if it["state"] == "success"]
        told = [it for it in ended if self.api.result(it, PIPELINE)["changed"]]
        return told[0] if told else Pending(str([it["state"] for it in runs]))

    def await_run(self, dag: str, before: set[str]) -> None:
        """Wait for a run that nobody triggers, beside those that were there before."""
        until(f"a run of {dag}", lambda: bool(self.runs(dag) - before) or Pending("none"), timeout=60, interval=1)

    def runs(self, dag: str) -> set[str]:
        return {it["dag_run_id"] for it in self.api.get(f"/dags/{dag}/dagRuns", limit=100)["dag_runs"]}


@pytest.fixture(scope="module")
def site(stack: Settings, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Site]:
    stage = make(stack, tmp_path_factory.mktemp("scheduled"))
    job = stage.shop.project / "jobs/visits.py"
    text = job.read_text(encoding="utf-8")
    assert 'segment="hour"),' in text
    job.write_text(text.replace('segment="hour"),', 'segment="hour"),\n    repair="after 5 s",'), encoding="utf-8")
    dags = add_dags(stage.shop)
    (dags / "operators.py").unlink()
    watch = dags / "penstock_watch.py"
    text = watch.read_text(encoding="utf-8").replace("NOTIFIERS = []", HEAR)
    # By a connection, which the triggerer has to ask for.
    text = text.replace('task_id="watch", ', 'task_id="watch", conn_id="by_hand", ')
    watch.write_text(text, encoding="utf-8")
    repair = dags / "penstock_repair.py"
    text = repair.read_text(encoding="utf-8")
    assert 'schedule="*/10 * * * *"' in text
    repair.write_text(text.replace("*/10", "*"), encoding="utf-8")
    (dags / "woken.py").write_text(WOKEN, encoding="utf-8")
    serve_dags(stack, dags)
    request.getfixturevalue("airflow")
    api = Api(stack)
    shipped = (OWN, "penstock_replay", "penstock_stop", "penstock_maintenance", "penstock_repair")
    for dag in (*shipped, "my_report", "my_topics"):
        api.await_dag(dag)
    for dag in (OWN, "penstock_replay", "penstock_stop"):
        api.pause(dag, False)
    api.connect("by_hand", {"kafka": {"client": {"socket.keepalive.enable": "true"}}})
    yield Site(stage, api)


@pytest.mark.timeout(600)
def test_its_own_dag_makes_the_pipeline_and_wakes_who_waits_for_its_topic(site: Site) -> None:
    run = site.api.run(OWN)
    assert run["state"] == "success", site.api.states(run)
    site.await_run("my_topics", set())
    site.stage.live()
    for task, name in (("start", "Flink job"), ("supervisor", "Druid")):
        link = site.api.links(run, task)[name]
        assert link is not None and httpx.get(link, trust_env=False).is_success, link
    record = site.stage.services.registry.read()[PIPELINE]
    assert record.job_id in str(site.api.links(run, "start")["Flink job"])


@pytest.mark.timeout(900)
def test_a_user_ends_a_task_and_its_job_and_clears_it_and_it_goes_on(site: Site) -> None:
    """While it submits, while it holds a worker's place, and while it is deferred; then the triggerer is killed."""
    run = site.api.begin("penstock_replay", SLOWLY)
    site.submitting(run)
    site.api.mark(run, "compute", "failed")
    until("the end of the task's process", lambda: not site.planners() or Pending("it submits"), timeout=60)
    time.sleep(5)
    assert site.bounded(run) == [], "nobody submits it after all"
    site.api.clear(run, "compute")
    took = site.mark_failed(run, site.computing(run, "running"))
    print(f"\nmarked failed while it ran: its job was cancelled after {took:.1f} s", flush=True)
    site.api.clear(run, "compute")
    took = site.mark_failed(run, site.computing(run, "deferred"))
    print(f"marked failed while it was deferred: its job was cancelled after {took:.1f} s", flush=True)
    site.api.clear(run, "compute")
    last = site.computing(run, "deferred")
    site.kill("airflow-triggerer")
    began = time.monotonic()
    done = site.api.ended(run, timeout=500)
    print(f"after its triggerer was killed: done after {time.monotonic() - began:.0f} s", flush=True)
    assert done["state"] == "success", site.api.states(run)
    replay = site.replay(run)
    assert (replay.status, replay.attempt, replay.task) == ("done", 3, 1)  # the first was never submitted
    assert [job.id for job in site.bounded(run) if job.state == "FINISHED"] == [last.id]
    assert [job.name for job in site.flink.jobs() if job.live] == [job_name(PIPELINE)]
    for task, name in (("compute", "Flink job"), ("publish", "Druid")):
        link = site.api.links(run, task)[name]
        assert link is not None and httpx.get(link, trust_env=False).is_success, link
    assert "published and checked" in site.api.result(run, "receipt")


@pytest.mark.timeout(1200)
def test_scheduler_and_workers_are_killed_and_there_is_one_replay(site: Site) -> None:
    run = site.api.begin("penstock_replay", SLOWLY | {"reason": "another drill"})
    job = site.computing(run, "running")
    site.kill("airflow-scheduler")
    began = time.monotonic()
    done = site.api.ended(run, timeout=900)
    print(f"\nafter scheduler and workers were killed: done after {time.monotonic() - began:.0f} s", flush=True)
    assert done["state"] == "success", site.api.states(run)
    assert [it.id for it in site.bounded(run)] == [job.id], "the next try took it as it was"
    replay = site.replay(run)
    assert (replay.status, replay.attempt, replay.task) == ("done", 1, 1)
    (ledger,) = site.stage.shop.verify(PIPELINE)
    assert ledger["equal"], ledger["differences"]


@pytest.mark.timeout(600)
def test_the_watch_tells_within_its_minute_and_a_notifier_hears_it_once(site: Site) -> None:
    site.stage.healthy()
    site.api.pause("penstock_watch", False)
    first = site.watched(set(), "success")
    assert site.api.result(first, "watch").strip('"') == "healthy"  # Airflow writes twice what a trigger returns
    assert site.api.task(first, "watch")["pid"] is None, "while all is well, it is no process of a worker's"
    began = time.time()
    env = site.stage.shop.stack.env
    url = f"{env.druid.coordinator}/druid/indexer/v1/supervisor/{PIPELINE}/suspend"
    httpx.post(url, trust_env=False).raise_for_status()
    run = site.watched(site.runs("penstock_watch"), "failed")
    said = time.time() - began
    words = f"{PIPELINE}: supervisor is suspended since"
    assert words in site.api.log(run, "watch")
    print(f"\nthe watch told of a suspended supervisor after {said:.0f} s", flush=True)
    site.watched(site.runs("penstock_watch"), "failed")  # once more, and that is no news
    site.stage.shop.run("apply")
    site.watched(site.runs("penstock_watch"), "success")
    site.api.pause("penstock_watch", True)
    heard = site.heard()
    assert [len(it) for it in heard] == [1, 0] and heard[0][0].startswith(words), heard


@pytest.mark.timeout(600)
def test_a_repair_by_its_schedule_wakes_who_waits_for_the_datasource(site: Site) -> None:
    reports = site.runs("my_report")
    site.api.pause("penstock_repair", False)
    site.stage.late()
    run = until("a repair", site.repaired, timeout=300, interval=1)
    assert run["run_type"] == "scheduled"
    site.api.pause("penstock_repair", True)
    site.await_run("my_report", reports)
    (ledger,) = site.stage.shop.verify(PIPELINE)
    assert ledger["equal"] and sum(segment["healed"] for segment in ledger["segments"]) > 0


@pytest.mark.timeout(600)
def test_maintenance_by_its_dag_does_its_duties_and_proves_every_ledger(site: Site) -> None:
    site.api.pause("penstock_maintenance", False)
    site.stage.fragments()
    run = site.api.run("penstock_maintenance")
    assert run["state"] == "success", (site.api.states(run), site.api.log(run, f"ledger.{PIPELINE}"))
    assert any("T02:00" in line for line in site.api.result(run, "compact"))
    assert site.api.result(run, f"ledger.{PIPELINE}")["rows_compared"] > 0
    site.api.pause("penstock_maintenance", True)


@pytest.mark.timeout(600)
def test_stopped_by_its_form_it_goes_on_from_its_savepoint(site: Site) -> None:
    run = site.api.run("penstock_stop", {"pipeline": PIPELINE, "cancel": False})
    assert run["state"] == "success", site.api.states(run)
    stopped = site.stage.services.registry.read()[PIPELINE]
    assert stopped.status == "stopped" and "savepoint" in str(stopped.savepoint)
    run = site.api.run(OWN)
    assert run["state"] == "success", site.api.states(run)
    again = site.stage.services.registry.read()[PIPELINE]
    assert (again.status, again.restore) == ("running", stopped.savepoint)
    assert [job.id for job in site.flink.jobs() if job.live] == [again.job_id]


@pytest.mark.parametrize("wrong", [{"pipeline": "absent"}, {"to": None}, {"rate": 0}], ids=["pipeline", "to", "rate"])
def test_what_a_form_does_not_take_its_api_does_not_take_either(site: Site, wrong: dict[str, Any]) -> None:
    before = site.runs("penstock_replay")
    with pytest.raises(AssertionError, match=f" 4[02][0-9] .*{next(iter(wrong))}"):
        site.api.begin("penstock_replay", SLOWLY | wrong)
    assert site.runs("penstock_replay") == before


def test_no_time_at_all_is_refused_by_the_first_task_in_the_command_lines_words(site: Site) -> None:
    run = site.api.run("penstock_replay", SLOWLY | {"from": "yesterday"})
    assert (run["state"], site.api.states(run)["begin"]) == ("failed", "failed")
    told = site.stage.shop.call("replay", PIPELINE, "--from", "yesterday", "--to", str(SLOWLY["to"]))
    assert told.returncode == 2
    assert told.stderr.splitlines()[0].removeprefix("error: ") in site.api.log(run, "begin")
