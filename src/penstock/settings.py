"""Settings: where things are.  `penstock.toml` at the project's root, secrets and overrides from the environment.

The environment is read here and nowhere else, in `load_settings`, never at import.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from penstock.durations import EXAMPLES, parse_duration
from penstock.errors import DeclarationError

FILE = "penstock.toml"

#: Offsets from `port_base`, one for each listening socket of the native stack.
PORT_OFFSETS = {
    "zookeeper": 21,
    "flink_tm_rpc": 22,
    "flink_rpc": 23,
    "flink_blob": 24,
    "flink_tm_data": 25,
    "druid_metadata": 27,
    "airflow_api": 80,
    "flink_rest": 81,
    "druid_broker": 82,
    "druid_historical": 83,
    "druid_coordinator": 90,
    "druid_indexer": 91,
    "kafka": 92,
    "kafka_controller": 93,
}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InsideSettings(_Section):
    """How Flink's jobs and Druid's supervisors reach the brokers, where that differs from how Penstock does.

    What they are given is kept and shown by Flink and Druid: it names no secret.  Their JVMs learn users and passwords
    in other ways: Flink's by a JAAS file, Druid's by `[env.X.druid.consumer]`.
    """

    bootstrap: str
    client: dict[str, str] = {}

    @field_validator("client")
    @classmethod
    def _open(cls, value: dict[str, str]) -> dict[str, str]:
        if found := secret_properties(value):
            raise ValueError(f"{', '.join(found)} would be kept and shown by Flink and Druid")
        return value


def secret_properties(client: Mapping[str, str]) -> list[str]:
    """Return those of a Kafka client's properties whose values are nobody else's business."""
    return [key for key in client if re.search(r"jaas|password|secret|credential|key$", key)]


class KafkaSettings(_Section):
    """`client` holds librdkafka/Java client properties that both understand (SASL, TLS), with `${NAME}` for secrets.

    `inside` is what jobs and supervisors are given in place of `bootstrap` and `client`.
    `replay_bytes_per_second` is the most that a pipeline's replays fetch from each broker; None sets no limit.
    """

    bootstrap: str = "127.0.0.1:19092"
    replication: int = Field(1, ge=1)
    client: dict[str, str] = {}
    inside: InsideSettings | None = None
    replay_bytes_per_second: float | None = Field(None, gt=0)

    def given(self) -> dict[str, str]:
        """Return the properties by which a job or a supervisor reaches the brokers.

        Raises DeclarationError where they would hold a secret.
        """
        if self.inside is not None:
            return {"bootstrap.servers": self.inside.bootstrap, **self.inside.client}
        if found := secret_properties(self.client):
            raise DeclarationError(
                f"kafka.client: jobs and supervisors would be given {', '.join(found)}, which Flink and Druid show",
                hint="say what they are given in [env.X.kafka.inside], without secrets (docs/compose.md)",
            )
        return {"bootstrap.servers": self.bootstrap, **self.client}


class FlinkSettings(_Section):
    """`state` is a URI that JobManager and TaskManagers share; intervals are seconds.

    `web` is where a browser finds Flink's pages, if that is not `rest`: Airflow's links lead there.

    `python` is an interpreter that has PyFlink and Penstock, where the one that runs Penstock has no PyFlink (as in an
    Airflow with constraints of its own); a relative path is one of the project's.
    """

    rest: str = "http://127.0.0.1:19081"
    web: str = ""
    state: str = ""
    parallelism: int = Field(2, ge=1)
    checkpoint_interval: float = Field(1.0, gt=0)
    transaction_timeout: float = Field(900.0, gt=0)
    python: Path | None = None


class DruidSettings(_Section):
    """Where Druid asks for a name and password, they are in its addresses: `http://name:password@host`.

    `web` is where a browser finds the coordinator, if that is not `coordinator`: Airflow's links lead there.
    `consumer` are properties of a supervisor's consumer beside Kafka's own, such as a `druid.dynamic.config.provider`.
    """

    broker: str = "http://127.0.0.1:19082"
    coordinator: str = "http://127.0.0.1:19090"
    web: str = ""
    task_duration: str = "PT15M"
    replicas: int = Field(1, ge=0)
    consumer: dict[str, Any] = {}


class MaintenanceSettings(_Section):
    """What `penstock maintain` keeps.  `rows` maps a datasource to how long its rows are kept, by event time.

    A datasource that is not named keeps all.  `savepoints` and `replay_files` are how long those are kept that nothing
    refers to.
    """

    rows: dict[str, str] = {}
    savepoints: str = "30 d"
    replay_files: str = "7 d"

    @field_validator("savepoints", "replay_files")
    @classmethod
    def _one(cls, value: str) -> str:
        return _checked(value)

    @field_validator("rows")
    @classmethod
    def _each(cls, value: dict[str, str]) -> dict[str, str]:
        return {name: _checked(text) for name, text in value.items()}


def _checked(text: str) -> str:
    if parse_duration(text) is None:
        raise ValueError(f"it is no duration; write one like {EXAMPLES}")
    return text


class StackSettings(_Section):
    """The native stack: `state` is its directory (data, logs, sockets); ports are `port_base` + PORT_OFFSETS.

    `java_home` is the JDK to run with: else JAVA_HOME of the environment, else the `java` on PATH.
    """

    state: Path = Path(".penstock/stack")
    port_base: int = Field(19000, ge=1024, le=65000)
    java_home: Path | None = None

    def port(self, name: str) -> int:
        return self.port_base + PORT_OFFSETS[name]


class Environment(_Section):
    """One place where pipelines run: addresses and sizes."""

    name: str
    kafka: KafkaSettings = KafkaSettings()
    flink: FlinkSettings = FlinkSettings()
    druid: DruidSettings = DruidSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()


class Settings(_Section):
    root: Path
    jobs: Path
    dags: Path
    env: Environment
    stack: StackSettings

    @property
    def home(self) -> Path:
        """The generated directory: jars, compiled plans, locks, state of the native stack."""
        return self.root / ".penstock"

    @property
    def jars(self) -> Path:
        return self.home / "jars"


def find_root(start: Path) -> Path:
    """Return the nearest directory at or above `start` that holds penstock.toml; raise DeclarationError if none."""
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    raise DeclarationError(
        f"no {FILE} in {start} or above it", hint="run penstock inside a project, or pass --project DIR"
    )


def load_settings(
    root: Path | None = None, *, env: str | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    """Read penstock.toml and the environment variables PENSTOCK_ENV, PENSTOCK_STATE, PENSTOCK_PORT_BASE, JAVA_HOME.

    The environment `native` takes its addresses from the stack's ports.  Raises DeclarationError with every mistake.
    """
    environ = os.environ if environ is None else environ
    root = find_root(Path.cwd()) if root is None else root.resolve()
    file = root / FILE
    if not file.is_file():
        raise DeclarationError(f"no {FILE} in {root}", hint="run penstock inside a project, or pass --project DIR")
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(f"{file}: not valid TOML: {error}") from None
    try:
        stack = _stack(root, table.get("stack", {}), environ)
        name = env or environ.get("PENSTOCK_ENV") or "native"
        environments = {"native": {}, **table.get("env", {})}
        if name not in environments:
            raise DeclarationError(f"{file}: no environment {name!r}; there are: {', '.join(environments)}")
        sections = dict(environments[name])
        secrets = _secrets(root, sections.pop("secrets", None))
        sections = _expand(sections, {**secrets, **environ})
        if name == "native":
            sections = _merge(_native_addresses(stack), sections)
        return Settings(
            root=root,
            jobs=root / table.get("jobs", "jobs"),
            dags=root / table.get("dags", "dags"),
            env=Environment(name=name, **sections),
            stack=stack,
        )
    except ValidationError as error:
        raise DeclarationError([_problem(file, item) for item in error.errors()]) from None


def overridden(settings: Settings, table: Mapping[str, Any], secrets: Mapping[str, str], *, place: str) -> Settings:
    """Return the settings with an environment's tables changed by `table`, in which `${NAME}` is one of `secrets`.

    `place` is where the table is, for the message.  Raises DeclarationError with every mistake.
    """
    known = settings.env.model_dump(exclude={"name"})
    try:
        sections = _merge(known, _expand(dict(table), secrets))
        return settings.model_copy(update={"env": Environment(name=settings.env.name, **sections)})
    except ValidationError as error:
        raise DeclarationError([_problem(place, item) for item in error.errors()]) from None


def _secrets(root: Path, name: str | None) -> dict[str, str]:
    """Read the lines NAME=value of an environment's file of secrets; where there is none, the environment has them."""
    try:
        text = (root / name).read_text(encoding="utf-8") if name else ""
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DeclarationError(f"{root / str(name)}: can't be read: {error.strerror}") from None
    lines = (line.strip() for line in text.splitlines())
    return {key.strip(): value for key, _, value in (it.partition("=") for it in lines if it and it[0] != "#")}


def _problem(file: Path | str, item: Any) -> str:
    return f"{file}: {'.'.join(str(part) for part in item['loc'])} = {item['input']!r}: {item['msg']}"


def _stack(root: Path, table: dict[str, Any], environ: Mapping[str, str]) -> StackSettings:
    values = dict(table)
    if "PENSTOCK_STATE" in environ:
        values["state"] = environ["PENSTOCK_STATE"]
    if "PENSTOCK_PORT_BASE" in environ:
        values["port_base"] = environ["PENSTOCK_PORT_BASE"]
    if environ.get("JAVA_HOME"):
        values.setdefault("java_home", environ["JAVA_HOME"])
    stack = StackSettings(**values)
    return stack.model_copy(update={"state": (root / stack.state).resolve()})


def _native_addresses(stack: StackSettings) -> dict[str, Any]:
    return {
        "kafka": {"bootstrap": f"127.0.0.1:{stack.port('kafka')}"},
        "flink": {"rest": f"http://127.0.0.1:{stack.port('flink_rest')}", "state": (stack.state / "flink").as_uri()},
        "druid": {
            "broker": f"http://127.0.0.1:{stack.port('druid_broker')}",
            "coordinator": f"http://127.0.0.1:{stack.port('druid_coordinator')}",
        },
    }


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        merged[key] = {**(merged.get(key) or {}), **value} if isinstance(value, dict) else value
    return merged


def _expand(value: Any, environ: Mapping[str, str]) -> Any:
    """Replace `${NAME}` and `${NAME:-default}` by the environment's value.

    A missing one without a default is a mistake, not an empty string.
    """
    if isinstance(value, dict):
        return {key: _expand(item, environ) for key, item in value.items()}
    if isinstance(value, str) and "${" in value:

        def secret(match: re.Match[str]) -> str:
            if match[2] is not None:
                return environ.get(match[1]) or match[2]
            if match[1] not in environ:
                raise DeclarationError(f"{FILE}: ${{{match[1]}}} is not set", hint=f"export {match[1]}=...")
            return environ[match[1]]

        return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", secret, value)
    return value
