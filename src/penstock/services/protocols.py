"""What the core needs of each service.  The real ones are beside this file, the in-memory twins too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from penstock.flink.spec import JobSpec
from penstock.services.druid import Supervisor
from penstock.services.flink import Job, RestorePoint
from penstock.services.registry import Record
from penstock.settings import Settings
from penstock.topics import TopicSpec
from penstock.wait import Progress

if TYPE_CHECKING:  # its module imports the Kafka client
    from penstock.services.kafka import TopicState


class KafkaService(Protocol):
    """Topics, as `penstock.services.kafka.Kafka` gives them."""

    def topics(self, names: Iterable[str]) -> dict[str, TopicState]: ...
    def create_topic(self, spec: TopicSpec) -> None: ...
    def alter_config(self, name: str, config: Mapping[str, str]) -> None: ...
    def add_partitions(self, name: str, total: int) -> None: ...
    def delete_topic(self, name: str) -> None: ...


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


class RegistryService(Protocol):
    """What was applied, as `penstock.services.registry.Registry` keeps it."""

    def read(self) -> dict[str, Record]: ...
    def write(self, record: Record) -> Record: ...


@dataclass(frozen=True)
class Services:
    """The services of one environment.  `submit` starts Flink jobs; one that Flink already has is success."""

    kafka: KafkaService
    flink: FlinkService
    druid: DruidService
    registry: RegistryService
    submit: Callable[[Settings, Sequence[JobSpec], Progress | None], None]


def connect(settings: Settings) -> Services:
    """Return the real services of the settings' environment; nothing is contacted yet."""
    from penstock.flink.submit import submit
    from penstock.services.druid import Druid
    from penstock.services.flink import Flink
    from penstock.services.kafka import Kafka
    from penstock.services.registry import Registry

    env = settings.env
    kafka = Kafka(env.kafka)
    return Services(kafka, Flink(env.flink), Druid(env.druid), Registry(env, kafka), submit)
