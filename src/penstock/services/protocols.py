"""What the core needs of each service.  The real ones are beside this file, the in-memory twins too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from penstock.flink.spec import JobSpec
from penstock.services.druid import Reading, Supervisor
from penstock.services.flink import Job, RestorePoint
from penstock.services.registry import Record
from penstock.settings import Settings
from penstock.topics import TopicSpec
from penstock.wait import Progress

if TYPE_CHECKING:  # the first imports the Kafka client; the others are derived from this package
    import pyarrow as pa

    from penstock.replay.derive import BatchSpec
    from penstock.replay.record import Replay
    from penstock.services.kafka import Record as LogRecord
    from penstock.services.kafka import TopicState


class KafkaService(Protocol):
    """Topics, offsets and records, as `penstock.services.kafka.Kafka` gives them."""

    def topics(self, names: Iterable[str]) -> dict[str, TopicState]: ...
    def create_topic(self, spec: TopicSpec) -> None: ...
    def alter_config(self, name: str, config: Mapping[str, str]) -> None: ...
    def add_partitions(self, name: str, total: int) -> None: ...
    def delete_topic(self, name: str) -> None: ...
    def start_offsets(self, topic: str) -> dict[int, int]: ...
    def end_offsets(self, topic: str, *, committed: bool) -> dict[int, int]: ...
    def offsets_for_time(self, topic: str, ms: int) -> dict[int, int]: ...
    def group_offsets(self, group: str, topic: str) -> dict[int, int]: ...
    def read(
        self, topic: str, start: Mapping[int, int], end: Mapping[int, int], *, committed: bool = True
    ) -> Iterable[list[LogRecord]]: ...
    def read_arrow(
        self,
        topic: str,
        start: Mapping[int, int],
        end: Mapping[int, int],
        *,
        committed: bool = True,
        with_headers: bool = False,
    ) -> Iterable[pa.RecordBatch]: ...


class FlinkService(Protocol):
    """Jobs, as `penstock.services.flink.Flink` gives them."""

    def jobs(self) -> list[Job]: ...
    def job(self, job_id: str) -> Job | None: ...
    def stop_with_savepoint(
        self, job_id: str, target_dir: str, *, timeout: float = 120, progress: Progress | None = None
    ) -> str: ...
    def cancel(self, job_id: str, *, timeout: float = 60) -> None: ...
    def restore_point(self, job_id: str, savepoints: str = "") -> RestorePoint: ...
    def root_exception(self, job_id: str) -> str | None: ...
    def overview(self) -> Mapping[str, Any]: ...
    def watermark(self, job_id: str) -> int | None: ...
    def trigger_checkpoint(self, job_id: str, *, timeout: float = 60) -> int: ...
    def latest_checkpoint(self, job_id: str) -> tuple[int, str] | None: ...
    def restored(self, job_id: str) -> tuple[int, int]: ...
    def records_read(self, job_id: str) -> int: ...


class DruidService(Protocol):
    """Supervisors and datasources, as `penstock.services.druid.Druid` gives them."""

    def supervisors(self) -> dict[str, Supervisor]: ...
    def post_supervisor(self, spec: Mapping[str, Any]) -> None: ...
    def suspend(self, name: str, *, timeout: float = 120, progress: Progress | None = None) -> None: ...
    def resume(self, name: str) -> None: ...
    def reset(self, name: str) -> None: ...
    def terminate(self, name: str, *, timeout: float = 120, progress: Progress | None = None) -> None: ...
    def drop_datasource(self, name: str) -> None: ...
    def problem(self, name: str) -> str | None: ...
    def reading(self, name: str) -> Reading: ...
    def hand_off(self, name: str, groups: Sequence[int]) -> None: ...
    def realtime_segments(self, name: str, start: int, end: int) -> int: ...
    def totals(self, name: str, start: int, end: int, segment: str) -> dict[int, tuple[int, int]]: ...
    def submit_task(self, spec: Mapping[str, Any]) -> None: ...
    def task_state(self, task_id: str) -> str | None: ...
    def task_failure(self, task_id: str) -> str: ...


class ReplaysService(Protocol):
    """What is remembered of replays, as `penstock.replay.record.Replays` keeps it."""

    def read(self) -> dict[str, Replay]: ...
    def write(self, replay: Replay) -> Replay: ...


class RegistryService(Protocol):
    """What was applied, as `penstock.services.registry.Registry` keeps it."""

    def read(self) -> dict[str, Record]: ...
    def write(self, record: Record) -> Record: ...


@dataclass(frozen=True)
class Services:
    """The services of one environment.

    `submit` starts Flink jobs, `submit_batch` a bounded one; one that Flink already has is success.
    """

    kafka: KafkaService
    flink: FlinkService
    druid: DruidService
    registry: RegistryService
    replays: ReplaysService
    submit: Callable[[Settings, Sequence[JobSpec], Progress | None], None]
    submit_batch: Callable[[Settings, BatchSpec, Progress | None], None]


def connect(settings: Settings) -> Services:
    """Return the real services of the settings' environment; nothing is contacted yet."""
    from penstock.flink.submit import submit, submit_batch
    from penstock.replay.record import Replays
    from penstock.services.druid import Druid
    from penstock.services.flink import Flink
    from penstock.services.kafka import Kafka
    from penstock.services.registry import Registry, producer

    env = settings.env
    kafka = Kafka(env.kafka)
    return Services(
        kafka=kafka,
        flink=Flink(env.flink),
        druid=Druid(env.druid),
        registry=Registry(env, kafka),
        replays=Replays(env, kafka, producer(env.kafka)),
        submit=submit,
        submit_batch=submit_batch,
    )
