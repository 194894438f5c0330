"""A whole environment in memory, and one that dies at a chosen call."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from penstock import Aggregate, Datasource, Field, Pipeline, Select, Topic, Tumble
from penstock.apply import apply
from penstock.errors import UnavailableError
from penstock.observe import Observed, observe
from penstock.plan import plan
from penstock.replay.record import Replays
from penstock.services.memory_druid import MemoryDruid
from penstock.services.memory_flink import MemoryFlink
from penstock.services.memory_kafka import MemoryKafka
from penstock.services.protocols import Services
from penstock.services.registry import Registry
from penstock.settings import Environment, FlinkSettings, Settings, StackSettings
from penstock.steps import Plan

#: Every call that changes something.
CHANGING = {
    "create_topic",
    "alter_config",
    "add_partitions",
    "delete_topic",
    "stop_with_savepoint",
    "cancel",
    "post_supervisor",
    "suspend",
    "resume",
    "reset",
    "reset_offsets",
    "terminate",
    "drop_datasource",
    "write",
    "submit",
    "submit_batch",
    "trigger_checkpoint",
    "hand_off",
    "submit_task",
}


class Crash(BaseException):
    """The process dies: no handler of ordinary errors runs."""


@dataclass
class Fault:
    """Counts the changing calls, and raises at number `at` (from 1): before or after it took effect."""

    at: int = 0
    after: bool = False
    error: Callable[[], BaseException] = Crash
    calls: list[str] = field(default_factory=list)

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == self.at and not self.after:
                raise self.error()
            answer = call(*args, **more)
            if len(self.calls) == self.at and self.after:
                raise self.error()
            return answer

        return counted


class _Counted:
    def __init__(self, inner: Any, fault: Fault) -> None:
        self._inner, self._fault = inner, fault

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        return self._fault.around(name, value) if name in CHANGING else value


class World:
    """Kafka, Flink, Druid and the registry in memory, with the settings of an environment that points to them."""

    def __init__(self, root: Path) -> None:
        flink = FlinkSettings(state="memory:")
        self.settings = Settings(
            root=root,
            jobs=root / "jobs",
            dags=root / "dags",
            env=Environment(name="test", flink=flink),
            stack=StackSettings(),
        )
        self.kafka, self.flink, self.druid = MemoryKafka(), MemoryFlink(), MemoryDruid()
        self.registry = Registry(self.settings.env, self.kafka, self._produce)
        self.replays = Replays(self.settings.env, self.kafka, self._produce)

    def _produce(self, topic: str, key: bytes, value: bytes) -> None:
        self.kafka.append(topic, value, key=key)

    def services(self, fault: Fault | None = None) -> Services:
        fault = fault or Fault()
        return Services(
            kafka=_Counted(self.kafka, fault),
            flink=_Counted(self.flink, fault),
            druid=_Counted(self.druid, fault),
            registry=_Counted(self.registry, fault),
            replays=_Counted(self.replays, fault),
            submit=fault.around("submit", self.flink.submit),
            submit_batch=fault.around("submit_batch", self.flink.submit_batch),
            compiled=self.flink.compiled,
        )

    def use(self, **flink: Any) -> None:
        """Change Flink's settings of the environment."""
        env = self.settings.env
        changed = env.model_copy(update={"flink": env.flink.model_copy(update=flink)})
        self.settings = self.settings.model_copy(update={"env": changed})

    def observe(self, pipelines: Sequence[Pipeline]) -> Observed:
        return observe(pipelines, self.services(), self.settings)

    def plan(self, pipelines: Sequence[Pipeline], *allow: str) -> Plan:
        return plan(pipelines, self.observe(pipelines), self.settings.env, frozenset(allow))

    def apply(self, pipelines: Sequence[Pipeline], *allow: str, fault: Fault | None = None, **more: Any) -> Plan:
        more = {"timeout": 0.2} | more
        return apply(pipelines, self.services(fault), self.settings, allow=frozenset(allow), **more)

    def state(self) -> str:
        """Everything that counts, as text that can be compared; not who did it and when."""
        records = {
            name: asdict(replace(record, applied_at="", applied_by="")) for name, record in self.registry.read().items()
        }
        topics = {name: asdict(state) for name, state in self.kafka._states.items()}
        everything = {
            "records": records,
            "topics": topics,
            "jobs": sorted([job.id, job.state] for job in self.flink.jobs() if job.live),
            "supervisors": {name: asdict(item) for name, item in self.druid.supervisors().items()},
            "offsets": sorted(self.druid.offsets),
            "dropped": sorted(self.druid.dropped),
        }
        return json.dumps(everything, indent=1, sort_keys=True)


def unavailable() -> UnavailableError:
    return UnavailableError("it went away")


def topic(**changes: Any) -> Topic:
    values: dict[str, Any] = {
        "fields": [Field("id", "string"), Field("at", "timestamp_ms"), Field("price", "long")],
        "event_time": "at",
        "key": "id",
        "partitions": 4,
        "retention": "30 d",
    }
    return Topic("shop.sold.v1", **(values | changes))


def windowed(source: Topic | None = None, name: str = "sales", **changes: Any) -> Pipeline:
    measures = changes.pop("measures", {"n": "COUNT(*)"})
    return Pipeline(
        name,
        source=source or topic(),
        transform=Aggregate(window=Tumble("1 min"), by=["id"], measures=measures),
        sink=Datasource(dimensions=["id"], **changes),
    )


def raw(source: Topic | None = None, name: str = "sales_raw") -> Pipeline:
    return Pipeline(name, source=source or topic(), transform=Select(), sink=Datasource())
