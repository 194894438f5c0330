"""The parts of the native stack, as data: what each is rendered from, listens on, needs, and how its health is asked.

    zookeeper ──► druid-coordinator  druid-broker  druid-historical  druid-indexer
        └───────► flink-jobmanager ──► (registers) flink-taskmanager
    kafka
    airflow-api-server ──► airflow-scheduler  airflow-dag-processor  airflow-triggerer

An arrow is "is started when the other is healthy"; parts with no arrow between them start together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from penstock.settings import Settings
from penstock.stack import airflow, probes
from penstock.stack.layout import layout
from penstock.wait import Pending

Health = Callable[[], "str | Pending"]

_JVM = "supervisor/jvm.args"
_LOG4J = {"log4j2.properties": ("supervisor/log4j2.properties",)}


@dataclass(frozen=True)
class Part:
    """One process.

    `files` maps a file in <state>/conf/<name>/ to the templates below infra/ that it is joined from; `java.args` among
    them is the whole command line, unless `command` is one that is no JVM's, started in the project's root with
    `environment`.  `ports` are names in PORT_OFFSETS, `needs` parts that must be healthy first, `stop_wave` its turn in
    `down`.  A clean stop takes a few of the `stop_seconds`, but the first one writes the class-data archive (see
    `cds`), and a busy machine takes its time.  `before` is a script below infra/ and what it is given, which runs
    before each start, those by the process manager included, and becomes the part.
    """

    name: str
    files: Mapping[str, tuple[str, ...]]
    ports: tuple[str, ...]
    url: str
    health: Health = field(compare=False)
    needs: tuple[str, ...] = ()
    stop_wave: int = 0
    stop_seconds: int = 60
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """Return what it belongs to: kafka, druid, flink, airflow..."""
        return self.name.partition("-")[0]


#: Groups that `penstock up --without` may leave out; nothing else in the stack needs them.
OPTIONAL = ("airflow",)


def parts(settings: Settings) -> tuple[Part, ...]:
    """Return the parts of this stack, in the order they are shown.  Airflow's only where it is installed."""
    port = settings.stack.port
    return (
        Part(
            name="zookeeper",
            files={"java.args": (_JVM, "zookeeper/java.args"), "zoo.cfg": ("zookeeper/zoo.cfg",), **_LOG4J},
            ports=("zookeeper",),
            url=f"127.0.0.1:{port('zookeeper')}",
            health=partial(probes.zookeeper, port("zookeeper")),
            stop_wave=2,
        ),
        Part(
            name="kafka",
            files={
                "java.args": (_JVM, "kafka/java.args"),
                "server.properties": ("kafka/server.properties",),
                "tools-log4j2.properties": ("kafka/tools-log4j2.properties",),
                **_LOG4J,
            },
            ports=("kafka", "kafka_controller"),
            url=f"127.0.0.1:{port('kafka')}",
            health=partial(probes.kafka, port("kafka")),
            stop_wave=1,
        ),
        *_druid(settings),
        *_flink(settings),
        *(_airflow(settings) if airflow.installed() else ()),
    )


def left_out(settings: Settings) -> frozenset[str]:
    """Return the groups that the last `penstock up` was told to leave out."""
    try:
        return frozenset(layout(settings).without.read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return frozenset()


def parts_in_use(settings: Settings) -> tuple[Part, ...]:
    """Return the parts that this stack is to run: all but those left out."""
    without = left_out(settings)
    return tuple(part for part in parts(settings) if part.group not in without)


def _druid(settings: Settings) -> tuple[Part, ...]:
    rest = {name: f"http://127.0.0.1:{settings.stack.port(f'druid_{name}')}" for name in _DRUID}
    health: dict[str, Health] = {
        "coordinator": partial(probes.druid_coordinator, rest["coordinator"]),
        "broker": partial(probes.druid_ready, f"{rest['broker']}/druid/broker/v1/readiness"),
        "historical": partial(probes.druid_ready, f"{rest['historical']}/druid/historical/v1/readiness"),
        "indexer": partial(
            probes.druid_indexer,
            rest["indexer"],
            rest["coordinator"],
            f"127.0.0.1:{settings.stack.port('druid_indexer')}",
        ),
    }
    return tuple(
        Part(
            name=f"druid-{name}",
            files={
                "java.args": (_JVM, "druid/jvm.args", f"druid/{name}.args"),
                "common.runtime.properties": ("druid/common.runtime.properties",),
                "runtime.properties": (f"druid/{name}.runtime.properties",),
                **_LOG4J,
            },
            ports=(f"druid_{name}", "druid_metadata") if name == "coordinator" else (f"druid_{name}",),
            url=rest[name],
            health=health[name],
            needs=("zookeeper",),
            stop_wave=1 if name == "coordinator" else 0,
            before=_CUT_OFF if name == "indexer" else (),
        )
        for name in _DRUID
    )


_DRUID = ("coordinator", "broker", "historical", "indexer")
#: Its script, the folders in which tasks work, and that in which the indexer keeps which ran and which have ended.
_CUT_OFF = ("druid/indexer.sh", "${state}/druid/tasks", "${tmp}/druid-indexer/persistent/task")


def _flink(settings: Settings) -> tuple[Part, ...]:
    rest = f"http://127.0.0.1:{settings.stack.port('flink_rest')}"
    files = {"config.yaml": ("flink/config.yaml",), "log4j.properties": ("flink/log4j.properties",)}
    return (
        Part(
            name="flink-jobmanager",
            files={"java.args": (_JVM, "flink/jvm.args", "flink/jobmanager.args"), **files},
            ports=("flink_rest", "flink_rpc", "flink_blob"),
            url=rest,
            health=partial(probes.flink_jobmanager, rest),
            needs=("zookeeper",),
        ),
        Part(
            name="flink-taskmanager",
            files={"java.args": (_JVM, "flink/jvm.args", "flink/taskmanager.args"), **files},
            ports=("flink_tm_rpc", "flink_tm_data"),
            url=f"{rest}/#/task-manager",
            health=partial(probes.flink_taskmanager, rest),
            needs=("zookeeper",),
        ),
    )


def _airflow(settings: Settings) -> tuple[Part, ...]:
    url = airflow.address(settings)
    # Nobody asks the log servers, which listen on every interface: all parts see the same files.
    commands = {
        "api-server": ("api-server",),
        "scheduler": ("scheduler", "--skip-serve-logs"),
        "dag-processor": ("dag-processor",),
        "triggerer": ("triggerer", "--skip-serve-logs"),
    }
    health: dict[str, Health] = {
        name: partial(probes.airflow_job, url, name.replace("-", "_")) for name in commands if name != "api-server"
    }
    return tuple(
        Part(
            name=f"airflow-{name}",
            files={"airflow.cfg": ("airflow/airflow.cfg",)},
            ports=("airflow_api",) if name == "api-server" else (),
            url=url,
            health=health.get(name, partial(probes.airflow_api, url)),
            needs=() if name == "api-server" else ("airflow-api-server",),
            stop_wave=1 if name == "api-server" else 0,
            command=(*airflow.command(), *words),
            environment=airflow.environment(settings, f"airflow-{name}"),
        )
        for name, words in commands.items()
    )


def part_named(settings: Settings, name: str) -> Part:
    """Return the part called `name`; raise DeclarationError, naming all, where there is none."""
    from penstock.errors import DeclarationError

    everything = {part.name: part for part in parts(settings)}
    if name not in everything:
        raise DeclarationError(f"no part {name!r} in the stack; there are: {', '.join(everything)}")
    return everything[name]
