"""A pipeline that lives in memory: events arrive, the live job reads them, Druid reads its results, time passes."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from penstock import Datasource, Pipeline, Select, oracle
from penstock.durations import millis
from penstock.flink.spec import JobSpec, job_name
from penstock.flink.sql import out_columns
from penstock.pipeline import Aggregate
from penstock.replay.derive import BatchSpec
from penstock.replay.record import Replay
from penstock.replay.run import asked, prepare, refuse, run
from penstock.replay.scope import Scope, scope
from penstock.services.flink import local
from penstock.services.kafka import Record
from penstock.topics import consumer_group, late_topic, out_topic

from ..memory import World, topic, windowed

HOUR = 3_600_000
BOUND = 5_000

SOURCE = topic(partitions=2, out_of_orderness="5 s")
TUMBLE = windowed(SOURCE)
RAW = Pipeline("sales_raw", SOURCE, Select(), Datasource())
_ANSWERS: dict[str, list[dict[str, Any]]] = {}

#: A window's events, by its start, while it is open: ids.
Open = dict[int, list[str]]


@dataclass
class _Job:
    """Where the live job stands; `open` holds its windows."""

    position: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    watermark: int = -1
    open: Open = field(default_factory=dict)


class Life(World):
    """An environment in which one pipeline is applied.  Nothing happens by itself: tests call what is to happen."""

    def __init__(self, root: Path, pipeline: Pipeline = TUMBLE) -> None:
        super().__init__(root)
        self.use(state=(root / "state").as_uri())
        self.pipeline = pipeline
        self.jobs: dict[str, tuple[Pipeline, _Job]] = {}
        self.flink.bounded = self.compute
        self.flink.begun = self._begin
        self.flink.savepoint = self._savepoint
        self.apply([pipeline])

    # What happens.

    def arrive(self, *times: int, id: str = "a", partition: int = 0) -> None:
        """Let events of these times (ms) arrive, each stamped with its own time."""
        for at in times:
            value = json.dumps({"id": id, "at": at, "price": 1}).encode()
            self.kafka.append(SOURCE.name, value, partition=partition, timestamp=at)

    def live(self) -> None:
        """Let the jobs that run read and commit all there is, and Druid read that."""
        for pipeline, job in self.jobs.values():
            if any(it.live and it.name == job_name(pipeline.stream) for it in self.flink.jobs()):
                self._run(pipeline, job)
        self.druid_reads()

    def _begin(self, spec: JobSpec) -> None:
        """A job is started: a first one at the log's start, one beside a replay where that says; it reads at once."""
        if spec.restore is not None:
            return
        launches = [it.handover.launch for it in self.replays.read().values() if it.handover]
        found = [replace(self.pipeline, launch=it) for it in (None, *launches)]
        pipeline = next(it for it in reversed(found) if job_name(it.stream) == spec.name)
        job = _Job()
        if pipeline.launch is not None:
            job.position = dict(pipeline.launch.low)
        self.jobs[pipeline.stream] = (pipeline, job)
        if pipeline.launch is not None:
            self._run(pipeline, job)

    def _run(self, pipeline: Pipeline, job: _Job) -> None:
        for partition, position in job.position.items():
            end = self.kafka.end_offsets(SOURCE.name, committed=True)[partition]
            for batch in self.kafka.read(SOURCE.name, {partition: position}, {partition: end}):
                for record in batch:
                    self._read(pipeline, job, record)
            job.position[partition] = end
        self.flink.watermarks[job_name(pipeline.stream)] = job.watermark
        self.kafka.commit_group(consumer_group("test", pipeline.stream), SOURCE.name, job.position)

    def druid_reads(self) -> None:
        name = self.pipeline.name
        there = self.druid.supervisors().get(name)
        if there is None or there.suspended:
            return
        out = there.topic
        time = "window_start" if isinstance(self.pipeline.transform, Aggregate) else SOURCE.event_time
        for batch in self.kafka.read(out, {}, self.kafka.end_offsets(out, committed=True)):
            for record in batch:
                row = json.loads(record.value or b"")
                self.druid.ingest(name, record.partition, record.offset, (row[time], row.get("_rows", 1)))

    def _read(self, pipeline: Pipeline, job: _Job, record: Record) -> None:
        partition, offset, event = record.partition, record.offset, json.loads(record.value or b"")
        transform, at, launch = pipeline.transform, event["at"], pipeline.launch
        if not isinstance(transform, Aggregate):
            self._write(pipeline, {**event, "_partition": partition, "_offset": offset})
            return
        if transform.where is not None and event["id"] == "b":  # the only condition that is used here
            return
        size = millis(transform.window.size)
        start = at - at % size
        early = launch is not None and launch.boundary is not None and start < launch.boundary
        if early and launch is not None and offset < dict(launch.cut).get(partition, 0):
            return  # the replay's
        if early or job.watermark >= start + size - 1:
            headers = [
                ("topic", SOURCE.name.encode()),
                ("partition", b"%d" % partition),
                ("offset", b"%d" % offset),
                ("timestamp", b"%d" % record.timestamp),
                ("reason", b"late"),
                ("event_time", b"%d" % at),
            ]
            self.kafka.append(late_topic(pipeline.stream), b"", headers=headers)
        else:
            job.open.setdefault(start, []).append(event["id"])
        job.watermark = max(job.watermark, at - BOUND)
        for fired in sorted(start for start in job.open if start + size - 1 <= job.watermark):
            ids = job.open.pop(fired)
            for key in sorted(set(ids)):
                n = ids.count(key)
                self._write(
                    pipeline, {"window_start": fired, "window_end": fired + size, "id": key, "n": n, "_rows": n}
                )

    def _write(self, pipeline: Pipeline, row: dict[str, Any]) -> None:
        self.kafka.append(out_topic(pipeline.stream), json.dumps(row).encode())

    def _savepoint(self, name: str, path: str) -> None:
        """What Kafka's connector leaves in a savepoint: each split, as it was assigned and where it stands."""
        folder = local(path)
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        mark = struct.pack(">H", len(SOURCE.name)) + SOURCE.name.encode()
        data = b"head"
        job = next(job for pipeline, job in self.jobs.values() if job_name(pipeline.stream) == name)
        for partition, position in job.position.items():
            for offset in (-2, position):
                data += mark + struct.pack(">iqq", partition, offset, -(2**63))
        (folder / "_metadata").write_bytes(data)

    # The bounded job.

    def compute(self, spec: BatchSpec) -> None:
        """Do a bounded job's work: the oracle's, over the records between its offsets."""
        rows = self.oracle(spec.scope, spec.low, spec.high)
        folder = local(spec.folder)
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "part-0").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def oracle(self, within: Scope, low: Any, high: Any) -> list[dict[str, Any]]:
        batches = list(self.kafka.read_arrow(SOURCE.name, low, high))
        if not batches:
            return []
        # A life that is killed at each call asks the same each time.
        key = repr((self.pipeline, within, [batch.to_pylist() for batch in batches]))
        if key not in _ANSWERS:
            _ANSWERS[key] = self._answer(within, batches)
        return _ANSWERS[key]

    def _answer(self, within: Scope, batches: list[pa.RecordBatch]) -> list[dict[str, Any]]:
        with duckdb.connect() as connection:
            connection.register("log", pa.Table.from_batches(batches))
            query = oracle.events_query(SOURCE, self.pipeline.transform.where)
            connection.execute(f"CREATE TABLE events AS {query}")
            columns = list(out_columns(SOURCE, self.pipeline.transform))
            time, source = f'"{SOURCE.event_time}"', "events"
            if isinstance(self.pipeline.transform, Aggregate):
                time, source = "window_start", f"({oracle.result_query(self.pipeline)})"
            names = ", ".join(f'"{name}"' for name in columns)
            query = f"SELECT {names} FROM {source} WHERE {time} >= {within.start} AND {time} < {within.end}"
            rows = connection.execute(f"{query} ORDER BY ALL").fetchall()
        return [dict(zip(columns, row, strict=True)) for row in rows]

    # The replay.

    def replay(self, start: str = "1970-01-01T00:00", end: str = "1970-01-01T01:00", **more: Any) -> Replay:
        """Plan and run a replay as the command line does; `fault` kills it at a call."""
        fault, name = more.pop("fault", None), more.pop("id", "r1")
        services = self.services(fault)
        known = services.replays.read().get(name)
        if known is None:
            wanted = scope(self.pipeline, start, end)
            request = asked(wanted, dry_run=more.pop("dry_run", False), rate=more.pop("rate", None), reason="a test")
            made = prepare(self.pipeline, wanted, request, services, self.settings, id=name)
            refuse(made)
            known = made.replay
        return run(self.pipeline, known, services, self.settings, **({"timeout": 0.2, "steady": 0.0} | more))

    def planned(self, name: str) -> Replay:
        """Plan a replay of the first hour, and do nothing."""
        wanted = scope(self.pipeline, "1970-01-01T00:00", "1970-01-01T01:00")
        request = asked(wanted, dry_run=False, rate=None, reason="a test")
        return prepare(self.pipeline, wanted, request, self.services(), self.settings, id=name).replay

    def rows(self, start: int = 0, end: int = 2**62) -> list[tuple[int, int]]:
        """Return what Druid serves of `[start, end)`: (time, events)."""
        return [row for row in self.druid.rows(self.pipeline.name) if start <= row[0] < end]


def lived(root: Path, pipeline: Pipeline = TUMBLE) -> Life:
    """Return a life with an hour of events behind it, some of them late, and some of the next hour."""
    life = Life(root, pipeline)
    life.arrive(1_000, 2_000, 61_000)
    life.arrive(30 * 60_000, id="b", partition=1)
    life.live()
    life.arrive(HOUR - 1_000, HOUR + 90_000, partition=1)
    life.live()
    life.arrive(3_000, 62_000, id="b")  # behind the watermark by now
    life.live()
    return life


def outcome(life: Life) -> str:
    """Everything that counts after a replay, as text; not who did it, when, and at which checkpoint."""
    replays = list(life.replays.read().values())
    records = [(it.id, it.status, it.done, it.attempt, it.task) for it in replays]
    offsets = [(it.cut and dict(it.cut.high), it.settled and dict(it.settled.out)) for it in replays]
    folder = local(f"{life.settings.env.flink.state}/replays/test")
    assert folder is not None
    left = sorted(str(item) for item in folder.rglob("*") if item.is_file())
    figures = [it.figures for it in replays]
    state = json.loads(life.state())
    jobs = {job.name: job.state for job in life.flink.jobs() if job.live}
    return repr((records, offsets, left, figures, life.rows(), jobs, state["supervisors"].keys()))
