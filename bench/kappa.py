"""The same change of logic twice, each on a stack of its own over the same flights: Kappa, and Lambda.

The change: early departures no longer make up for late ones in the sum of delays.  It writes the marked parts of
docs/kappa.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice, takewhile
from pathlib import Path

import duckdb
import pyarrow as pa

from bench import facts, readers
from bench.comparison import Row, Step, Told, block, held_against, put, table, tidy
from bench.readers import Reader
from bench.stage import ROOT, Stage, load, stage
from bench.watch import Sql
from penstock import oracle
from penstock.data.flights import flights
from penstock.data.produce import produce
from penstock.errors import PenstockError, UnavailableError
from penstock.flink.spec import job_name
from penstock.load import load_pipelines
from penstock.pipeline import Aggregate, Pipeline
from penstock.wait import Pending, Progress, until

PAGE = ROOT / "docs" / "kappa.md"
DAY = 86_400_000
#: Flights that are in the log when the change is made, and how much faster than in life others arrive meanwhile.
FLIGHTS, QUICK_FLIGHTS = 60_000, 40_000
SPEEDUP = 2_000.0
SINCE = "2013-01-01"
#: How often a command is given at the most: where a service did not answer, the same again goes on.
ATTEMPTS = 3
#: Seconds that the reader goes on afterwards.
AFTER = 5.0

JOB, COPY, VIEW = "jobs/carrier_daily.py", "examples/lambda/carrier_daily.sql", "examples/lambda/serving.sql"
KAPPA_FILES = (JOB,)
LAMBDA_FILES = (JOB, COPY, VIEW, "examples/lambda/batch.py", "examples/lambda/ingest.json")
#: The commands that the page shows, by the names of its markers.
PATIENT = ("--timeout", "600")
UPGRADE = ("upgrade", "carrier_daily", "--replay-from", SINCE)
SHOWN = {
    "in place": ("upgrade", "carrier_daily"),
    "plan": (*UPGRADE, "--plan"),
    "dry run": (*UPGRADE, "--dry-run", *PATIENT),
    "upgrade": (*UPGRADE, *PATIENT),
    "verify": ("verify", "carrier_daily", *PATIENT),
}
OLD, NEW = "(delay_min)", "(CASE WHEN delay_min > 0 THEN delay_min ELSE 0 END)"
MEASURE = "delay_min_sum"
CUT_OFF = re.compile(r"TIMESTAMP '[\d-]+'")


@dataclass
class Project:
    """A user's project on the stage, in which commands run as a user would run them."""

    stage: Stage
    told: Told

    @property
    def root(self) -> Path:
        return self.stage.settings.root

    def make(self) -> None:
        """Copy what a user has; of the pipelines only the one that is changed, so that nothing else runs beside."""
        for name in ("penstock.toml", "jobs", "examples"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self.root / name)
        for other in ("airport_delays.py", "flights_raw.py"):
            (self.root / "jobs" / other).unlink()

    def texts(self, names: Sequence[str]) -> dict[str, str]:
        return {name: (self.root / name).read_text(encoding="utf-8") for name in names}

    def edit(self, name: str, old: str | re.Pattern[str], new: str, what: str = "") -> None:
        """Replace all of `old` in a file; a step of its own where `what` says for what."""
        text = (self.root / name).read_text(encoding="utf-8")
        pattern = re.compile(re.escape(old)) if isinstance(old, str) else old
        if not pattern.search(text):
            raise PenstockError(f"{name} has no {pattern.pattern!r}: the bench's change no longer fits it")
        (self.root / name).write_text(pattern.sub(lambda _: new, text), encoding="utf-8")
        if what:
            self.told.steps.append(Step("edit", f"`{name}`: {what}"))

    def penstock(self, *words: str, step: bool = False, allowed: Sequence[int] = (0,)) -> str:
        return self.run("penstock", [sys.executable, "-m", "penstock"], words, step=step, allowed=allowed)

    def batch(self, until: str, *, step: bool = False) -> str:
        env, stack = self.stage.settings.env, self.stage.settings.stack
        program = "examples/lambda/batch.py"
        here = ["--kafka", env.kafka.bootstrap, "--broker", env.druid.broker]
        here += ["--overlord", f"http://127.0.0.1:{stack.port('druid_coordinator')}", "--files", str(self.root / "f")]
        command = [sys.executable, str(self.root / program), *here]
        return self.run(f"python {program}", command, ("--until", until), step=step)

    def run(
        self, name: str, command: Sequence[str], words: Sequence[str], *, step: bool, allowed: Sequence[int] = (0,)
    ) -> str:
        """Run a command, note what it printed, and, where it is one of the steps, how long it took."""
        shown = " ".join([name, *words])
        self.stage.progress.update(shown)
        began = time.perf_counter()
        done, attempts = self._call([*command, *words]), 1
        while done.returncode == UnavailableError.exit_code and attempts < ATTEMPTS:
            done, attempts = self._call([*command, *words]), attempts + 1
        if done.returncode not in allowed:
            raise PenstockError(f"{shown}: exit {done.returncode}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
        if step:
            again = f" ({attempts} times: a service did not answer)" if attempts > 1 else ""
            what = f"`{shown.removesuffix(' --timeout 600')}`{again}"
            self.told.steps.append(Step("command", what, time.perf_counter() - began))
        self.told.outputs[shown] = tidy(done.stdout + (done.stderr if done.returncode else ""))
        return done.stdout

    def _call(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        stack = self.stage.settings.stack
        environ = {"PENSTOCK_STATE": str(stack.state), "PENSTOCK_PORT_BASE": str(stack.port_base), "COLUMNS": "125"}
        environ = {**os.environ, **environ}
        return subprocess.run(
            command, cwd=self.root, env=environ, capture_output=True, text=True, timeout=1800, check=False
        )


# --- The log and the live job.


def declared(project: Project) -> Pipeline:
    return next(it for it in load_pipelines(project.root / "jobs") if it.name == "carrier_daily")


def wanted(project: Project, pipeline: Pipeline) -> dict[tuple[int, str], Row]:
    """Return what the oracle gives for the whole log, late records included: events, then the measures."""
    kafka, topic = project.stage.services.kafka, pipeline.source
    assert isinstance(pipeline.transform, Aggregate)
    measures = ", ".join(f'"{name}"' for name in pipeline.transform.measures)
    first, end = kafka.start_offsets(topic.name), kafka.end_offsets(topic.name, committed=True)
    log = pa.Table.from_batches(kafka.read_arrow(topic.name, first, end))
    with duckdb.connect() as connection:
        connection.register("log", log)
        connection.execute(f"CREATE TABLE events AS {oracle.events_query(topic)}")
        rows = connection.execute(
            f"SELECT window_start, carrier, _rows, {measures} FROM ({oracle.result_query(pipeline)})"
        ).fetchall()
    return {(int(start), str(carrier)): tuple(map(int, figures)) for start, carrier, *figures in rows}


def newest(project: Project) -> int:
    """Return the end of the last day that has an event in the log (epoch ms)."""
    return max(day for day, _ in wanted(project, declared(project))) + DAY


def watermark(project: Project) -> int | None:
    """Return the watermark of the live job, whichever generation it is of."""
    flink = project.stage.services.flink
    names = {job_name("carrier_daily"), job_name("carrier_daily.1")}
    running = [job for job in flink.jobs() if job.name in names and job.running]
    return flink.watermark(running[-1].id) if running else None


def await_watermark(project: Project, moment: int) -> None:
    def probe() -> bool | Pending:
        reached = watermark(project)
        return True if reached is not None and reached >= moment - 1 else Pending(f"watermark {reached}")

    until("the live job", probe, timeout=900, interval=0.5, progress=project.stage.progress)


@dataclass
class Source:
    """The flights in the order of their reports: the first so many at once, then others at SPEEDUP."""

    project: Project
    sent: int = 0

    def first(self, count: int) -> None:
        produce(self.project.stage.settings.env.kafka, declared(self.project).source, flights(limit=count))
        self.sent = count

    @contextmanager
    def going_on(self) -> Iterator[None]:
        stop, failure = threading.Event(), list[BaseException]()
        topic, env = declared(self.project).source, self.project.stage.settings.env

        def write() -> None:
            try:
                events = takewhile(lambda _: not stop.is_set(), islice(flights(), self.sent, None))
                self.sent += produce(env.kafka, topic, events, speedup=SPEEDUP).count
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=write, name="flights", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if failure:
            raise failure[0]


# --- The two.


def prepare(stage: Stage, count: int) -> tuple[Project, Source]:
    project = Project(stage, Told())
    project.make()
    project.penstock("apply")
    source = Source(project)
    source.first(count)
    project.penstock(*SHOWN["verify"])
    return project, source


def kappa(stage: Stage, count: int) -> Told:
    """Change the declaration, and upgrade."""
    project, source = prepare(stage, count)
    told, query = project.told, 'SELECT * FROM "carrier_daily"'
    told.before = project.texts(KAPPA_FILES)
    with source.going_on(), Reader(stage.settings.env.druid.broker, lambda: query) as reader:
        time.sleep(AFTER)
        project.edit(JOB, f"SUM{OLD}", f"SUM{NEW}", "the measure")
        project.penstock(*SHOWN["in place"], allowed=(3,))
        project.penstock(*SHOWN["plan"])
        project.penstock(*SHOWN["dry run"])
        project.penstock(*SHOWN["upgrade"], step=True)
        told.took = told.steps[-1].seconds
        time.sleep(AFTER)
    told.after = project.texts(KAPPA_FILES)
    closing(project, reader, query)
    return told


def lambda_(stage: Stage, count: int) -> Told:
    """Change both copies, restart the speed layer, run the batch job, move the cut-off."""
    project, source = prepare(stage, count)
    told = project.told
    reached = watermark(project)
    assert reached is not None
    last_night = (reached + 1) // DAY * DAY
    project.batch(day(last_night))
    project.edit(VIEW, CUT_OFF, f"TIMESTAMP '{day(last_night)}'")
    told.before = project.texts(LAMBDA_FILES)

    def view() -> str:
        text = (project.root / VIEW).read_text(encoding="utf-8")
        return re.sub("--.*", "", text)

    with source.going_on(), Reader(stage.settings.env.druid.broker, view) as reader:
        time.sleep(AFTER)
        began = time.perf_counter()
        project.edit(JOB, f"SUM{OLD}", f"SUM{NEW}", "the measure, in the speed layer")
        project.edit(COPY, f"sum{OLD}", f"sum{NEW}", "the measure, in the batch layer")
        project.penstock("apply", "--allow", "stateless-restart", *PATIENT, step=True)
        cut_off = newest(project)
        waiting, at = time.perf_counter(), watermark(project) or reached
        await_watermark(project, cut_off)
        told.waited_days = max(0, cut_off - at) / DAY
        told.steps.append(Step("wait", "the last window that was cut short is over", time.perf_counter() - waiting))
        project.batch(day(cut_off), step=True)
        project.edit(VIEW, CUT_OFF, f"TIMESTAMP '{day(cut_off)}'", "the cut-off")
        told.took = time.perf_counter() - began
        time.sleep(AFTER)
    told.after = project.texts(LAMBDA_FILES)
    closing(project, reader, view())
    return told


def day(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment / 1000, UTC):%Y-%m-%d}"


def closing(project: Project, reader: Reader, query: str) -> None:
    """Note what readers saw, and hold every closed day against the oracle: row by row, all measures."""
    told, new = project.told, declared(project)
    project.penstock(*SHOWN["verify"], allowed=(0, 4))
    reached = watermark(project)
    assert reached is not None and isinstance(new.transform, Aggregate)
    closed, measures = (reached + 1) // DAY * DAY, dict(new.transform.measures)
    old = replace(new, transform=replace(new.transform, measures=measures | {MEASURE: f"SUM{OLD}"}))
    column = [*measures].index(MEASURE) + 1
    by_old, by_new = (per_day(wanted(project, one), column) for one in (old, new))
    told.times = readers.times(reader.seen, by_old, by_new)
    names = ", ".join(f'"{name}"' for name in ("_rows", *measures))
    there: dict[tuple[int, str], list[Row]] = {}
    asked = readers.halves(query, lambda part: f"SELECT TIMESTAMP_TO_MILLIS(__time), carrier, {names} FROM ({part})")
    for start, carrier, *figures in Sql(project.stage.settings.env.druid.broker).rows(asked):
        if int(start) < closed:
            there.setdefault((int(start), carrier), []).append(tuple(map(int, figures)))
    want = {key: row for key, row in wanted(project, new).items() if key[0] < closed}
    told.equality = held_against(there, want)


def per_day(rows: Mapping[tuple[int, str], tuple[int, ...]], column: int) -> dict[int, tuple[int, int]]:
    """Return each day's events, and the sum of one column."""
    found: dict[int, tuple[int, int]] = {}
    for (start, _), figures in rows.items():
        events, total = found.get(start, (0, 0))
        found[start] = (events + figures[0], total + figures[column])
    return found


# --- The page.


def written(page: str, one: Told, other: Told, found: Mapping[str, str]) -> str:
    """Return the page with everything measured in its places."""
    measured = "\n".join(f"- {name}: {value}" for name, value in found.items())
    shown = {name: block(one, f"penstock {' '.join(words)}") for name, words in SHOWN.items()}
    for name, text in {"measured": f"{measured}\n\n{table(one, other)}", **shown}.items():
        page = put(page, name, text)
    return page


def main(quick: bool, command: str, progress: Progress) -> str:
    """Measure both; write the page unless `quick`.  Return the table, and what the commands printed."""
    before, count = load(), QUICK_FLIGHTS if quick else FLIGHTS
    with stage(progress) as ready:
        one = kappa(ready, count)
        found = dict(facts.facts(ready.settings, command, before))
    with stage(progress) as ready:
        other = lambda_(ready, count)
    found["Load average at the end"] = f"{load():.1f} (1 min)"
    found["Flights"] = f"{count:,} in the log, others arriving {SPEEDUP:,.0f} times as fast as in life"
    if not quick:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), one, other, found), encoding="utf-8")
    printed = [f"$ {name}\n{text}" for told in (one, other) for name, text in told.outputs.items()]
    return "\n".join([table(one, other), *printed])
