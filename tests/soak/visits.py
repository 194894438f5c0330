"""A small pipeline through its life, one step after the other, under Airflow's operators."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from penstock import health, part
from penstock import stack as native
from penstock.load import load_pipelines
from penstock.lock import environment_lock
from penstock.pipeline import Pipeline
from penstock.segments import moment
from penstock.services.druid import Druid
from penstock.services.flink import Flink
from penstock.services.kafka import Kafka
from penstock.services.protocols import Services, connect
from penstock.settings import Settings, load_settings
from penstock.testing.project import project
from penstock.topics import late_topic
from penstock.wait import Pending, until

from ..cli import ROOT, Cli
from ..dag_runs import Airflow

#: The file of DAGs, and the one pipeline.
FILE = "operators.py"
PIPELINE = "visits"


@dataclass
class Stage:
    """The one pipeline."""

    shop: Cli
    airflow: Airflow
    filled: bool = False
    runs: int = 0
    #: Whether Flink's JobManager was restarted.
    forgot: bool = False
    #: The replay that is noted, and not finished, while the services fail.
    held: str = ""

    @property
    def settings(self) -> Settings:
        return load_settings(self.shop.project, environ=self.shop.environ)

    @property
    def services(self) -> Services:
        return connect(self.settings)

    @property
    def pipeline(self) -> Pipeline:
        return load_pipelines(self.shop.project / "jobs")[0]

    def at(self) -> str:
        """Return the moment of another run."""
        self.runs += 1
        return f"2026-01-01T{self.runs // 60:02}:{self.runs % 60:02}"

    def live(self) -> None:
        """Let it be applied and running, with two hours and a half of events in it."""
        record = self.services.registry.read().get(PIPELINE)
        if record is None or record.status != "running":
            self.shop.run("apply")
            self.shop.run("start", PIPELINE)
        if not self.filled:
            self.filled = True
            self.shop.produce(3_000, late=0.05, seed=1, start="2024-06-01T00:00", step=3_000)
            self.healthy()
            self.publish()
        self.healthy()

    def parts(self) -> None:
        """Wait until every part of the stack is healthy."""

        def well() -> bool | Pending:
            sick = [it.name for it in native.status(self.shop.stack) if not it.healthy]
            return not sick or Pending(", ".join(sick))

        until("the stack", well, timeout=240, interval=1)

    def healthy(self) -> None:
        """Wait until the stack and the pipeline are."""
        self.parts()

        def well() -> bool | Pending:
            services = self.services
            if found := health.look([self.pipeline], services):
                return Pending(", ".join(map(str, found)))
            # A job that was restored knows no watermark at first: a replay is refused then.
            job = services.registry.read()[PIPELINE].job_id
            return services.flink.watermark(job) is not None or Pending("its job has no watermark")

        until("the pipeline", well, timeout=240, interval=1)

    def late(self) -> None:
        """Send late events into the second hour."""
        self.live()
        kafka, topic = Kafka(self.shop.stack.env.kafka), late_topic(PIPELINE)

        def gone() -> int:
            return sum(kafka.end_offsets(topic, committed=True).values())

        before = gone()
        self.shop.produce(100, seed=2, start="2024-06-01T01:00", step=3_000)
        until("late events", lambda: gone() >= before + 100 or Pending("not there"), timeout=60, interval=0.5)

    def fragments(self) -> None:
        """Let the third hour be published in two segments, and close."""
        self.live()
        self.publish()
        self.shop.produce(800, seed=3, start="2024-06-01T02:30", step=3_000)
        druid = Druid(self.shop.stack.env.druid)
        last = moment("", "2024-06-01T03:09")
        until("rows", lambda: (druid.newest(PIPELINE, "__time") or 0) >= last or Pending("not all"), timeout=60)
        self.publish()
        until("two segments of an hour", lambda: bool(druid.fragmented(PIPELINE)) or Pending("one"), timeout=60)
        self.healthy()

    def publish(self) -> None:
        part.suspend(PIPELINE, self.services, self.settings)
        part.resume(PIPELINE, self.services, self.settings)

    def settle(self, table: str) -> None:
        """Add to the project's settings."""
        text = (ROOT / "penstock.toml").read_text(encoding="utf-8")
        more = f"\n[env.native.maintenance]\n{table}\n"
        (self.shop.project / "penstock.toml").write_text(text + more, encoding="utf-8")

    def rules(self) -> None:
        self.live()
        self.settle(f'rows = {{{PIPELINE} = "36500 d"}}')

    def rubbish(self) -> None:
        """Leave a savepoint and a replay's files that nothing refers to."""
        self.live()
        self.settle('savepoints = "1 s"\nreplay_files = "1 s"')
        state = self.shop.stack.stack.state / "flink"
        for folder in (state / f"savepoints/{PIPELINE}/savepoint-0ff0ff-1", state / "replays/native/of-nothing"):
            folder.mkdir(parents=True, exist_ok=True)
        time.sleep(1.1)

    def another(self) -> None:
        """Change the declaration, but not what it gives: the next upgrade has something to do."""
        self.live()
        file = self.shop.project / "jobs/visits.py"
        text = file.read_text(encoding="utf-8")
        assert "page <> 'x'" in text
        file.write_text(text.replace("page <> 'x'", "page <> 'y'"), encoding="utf-8")

    def hold(self) -> None:
        """Note a replay that is not finished.  It holds repairs back: so what is late is healed before."""
        self.shop.run("repair", PIPELINE)
        at = self.at()
        self.held = f"held-{self.runs}"
        assert self.airflow.run(FILE, "held", at, held=self.held)["state"] == "success"

    def abandon(self) -> None:
        """Give up what is not finished."""
        for it in self.services.replays.read().values():
            if it.status == "running":
                self.shop.run("replays", "--abandon", it.id)

    def one_of_each(self) -> None:
        """There is one job of the pipeline or, where it was stopped, none; one supervisor; nothing is half done."""
        env, services = self.shop.stack.env, self.services
        jobs = Flink(env.flink).jobs()
        record = services.registry.read().get(PIPELINE)
        runs = record is not None and record.status == "running"
        assert [job.id for job in jobs if job.live] == ([record.job_id] if record is not None and runs else []), jobs
        assert set(Druid(env.druid).supervisors()) <= {PIPELINE}
        replays = [it for it in services.replays.read().values() if it.status != "abandoned"]
        for it in replays:
            assert it.status == "done"
            # A JobManager that was restarted has forgotten those that had ended.
            assert len([job for job in jobs if job.name.endswith(f".{it.id}")]) in ((0, 1) if self.forgot else (1,))
        ours = {task["id"]: task["statusCode"] for task in self.tasks() if task["id"].startswith("penstock_")}
        assert "RUNNING" not in ours.values() and all(task.endswith("_1") for task in ours), ours
        with environment_lock(self.settings, "a look"):
            pass

    def tasks(self) -> list[dict[str, Any]]:
        """Return what Druid tells of all its tasks."""
        url = f"{self.shop.stack.env.druid.coordinator}/druid/indexer/v1/tasks"
        listed: list[dict[str, Any]] = httpx.get(url, trust_env=False).json()
        return listed

    def row(self, dag: str, fault: str) -> dict[str, dict[str, Any]]:
        """Run all operators under a fault; return what became of each: `what`, `words`, and the `try`."""
        log = self.airflow.run(FILE, dag, self.at(), held=self.held)["log"]
        told = [json.loads(line.partition("@told ")[2]) for line in log.splitlines() if "@told " in line]
        found = {it["task"]: it for it in told}
        for name, it in found.items():
            print(f"{fault}: {name}: {it['what']} ({it['try']}): {it['words']}", flush=True)
        return found


def make(stack: Settings, folder: Path, more: Mapping[str, str] | None = None) -> Stage:
    """Make a project of the pipeline, which is not applied yet; `more` is for Airflow's environment."""
    (folder / "jobs-of").mkdir()
    (folder / "jobs-of/visits.py").write_bytes((ROOT / "tests/soak/jobs/visits.py").read_bytes())
    shop = Cli(stack, project(stack, folder / "project", folder / "jobs-of").root, "web.visited.v1")
    (shop.project / "dags").mkdir()
    (shop.project / "dags" / FILE).write_bytes((ROOT / "tests/soak/dags" / FILE).read_bytes())
    return Stage(shop, Airflow(shop, folder / "airflow", more or {}))
