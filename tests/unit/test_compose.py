"""docker-compose.yml: closed to others, limited, watched, pinned; and the same configuration as the native stack's."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose_rules import awaited, megabytes, problems

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_it_holds_to_every_rule() -> None:
    assert problems(COMPOSE) == []


def _set(service: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda services: services[service].__setitem__(key, value)


def _variable(service: str, key: str, value: str) -> Callable[[dict[str, Any]], None]:
    return lambda services: services[service]["environment"].__setitem__(key, value)


def _without(service: str, key: str) -> Callable[[dict[str, Any]], None]:
    return lambda services: services[service].pop(key)


@pytest.mark.parametrize(
    ("break_it", "breach"),
    [
        (_set("kafka", "ports", ["29092:9192"]), "kafka: port 29092:9192 is not on loopback"),
        (_set("kafka", "ports", ["0.0.0.0:${PENSTOCK_KAFKA_PORT:-29092}:9192"]), "kafka: port 0.0.0.0"),
        (_set("kafka", "ports", ["127.0.0.1:29092:9192"]), "kafka: port 127.0.0.1:29092:9192"),
        (_without("druid-broker", "healthcheck"), "druid-broker: no health check"),
        (_set("druid-broker", "healthcheck", {"disable": True}), "druid-broker: no health check"),
        (_without("postgres", "mem_limit"), "postgres: no memory limit"),
        (_without("zookeeper", "restart"), "zookeeper: restart is None"),
        (_set("zookeeper", "restart", "no"), "zookeeper: restart is 'no'"),
        (_set("kafka-init", "restart", "unless-stopped"), "kafka-init: restart is 'unless-stopped'"),
        (_set("demo", "restart", "always"), "demo: restart is 'always'"),
        (_set("kafka", "image", "apache/kafka:latest"), "kafka: image apache/kafka:latest has no pinned tag"),
        (_set("kafka", "image", "apache/kafka"), "kafka: image apache/kafka has no pinned tag"),
        (_set("postgres", "image", "postgres:17"), "postgres: image postgres:17 has no pinned tag"),
        (_set("postgres", "user", "root"), "postgres: runs as root"),
        (_set("postgres", "user", "0:0"), "postgres: runs as root"),
        (_without("kafka", "user"), "kafka: runs as root"),
        (_set("kafka", "cap_drop", []), "kafka: keeps capabilities"),
        (_set("kafka", "container_name", "kafka"), "kafka: cannot stand beside another stack"),
        (_set("kafka", "volumes", ["./data:/var/lib/kafka/data"]), "kafka: mount ./data"),
        (_set("kafka-init", "depends_on", {"kafka": {"condition": "service_started"}}), "kafka-init: does not wait"),
        (_set("druid-indexer", "mem_limit", "9000m"), "all: "),
        (_variable("postgres", "POSTGRES_PASSWORD", "postgres"), "postgres: POSTGRES_PASSWORD holds"),
        (_variable("postgres", "POSTGRES_PASSWORD", "${X:-default}"), "postgres: POSTGRES_PASSWORD holds"),
        (_variable("druid-broker", "druid_escalator_internalClientPassword", "x"), "druid-broker: druid_escalator"),
        (
            _variable("airflow-init", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://a:b@postgres/a"),
            "airflow-init: AIRFLOW__DATABASE__SQL_ALCHEMY_CONN holds",
        ),
        (_variable("kafka", "KAFKA_X_SASL_JAAS_CONFIG", 'Module required user_a="b";'), "kafka: KAFKA_X"),
        (_variable("airflow-scheduler", "AIRFLOW__CORE__FERNET_KEY", "abc="), "airflow-scheduler: AIRFLOW__CORE"),
    ],
)
def test_each_breach_is_named(break_it: Callable[[dict[str, Any]], None], breach: str) -> None:
    broken = copy.deepcopy(COMPOSE)
    break_it(broken["services"])
    assert [found for found in problems(broken) if found.startswith(breach)], problems(broken)


def test_what_ends_by_itself_is_found_by_how_it_is_used() -> None:
    assert {name for name in SERVICES if awaited(name, SERVICES)} == {"kafka-init", "airflow-init"}
    lonely = copy.deepcopy(COMPOSE)
    for service in lonely["services"].values():
        (service.get("depends_on") or {}).pop("airflow-init", None)
    assert "airflow-init: restart is 'no'" in problems(lonely), "nobody waits for it: it should run on"


class _Override(yaml.SafeLoader):
    """Compose's own `!reset`, by which an override takes a value away."""


_Override.add_constructor("!reset", lambda loader, node: None)


def test_the_images_built_here_change_no_port_limit_user_or_right() -> None:
    over = yaml.load((ROOT / "compose.airgap.yml").read_text(), Loader=_Override)["services"]
    images = {name: over.get(name, {}).get("image", service["image"]) for name, service in SERVICES.items()}
    built = [images[name] for name in SERVICES if "build" in SERVICES[name] | over.get(name, {})]
    assert sorted(built) == sorted(set(images.values())), "each image is built, by one service"
    for name, service in SERVICES.items():
        assert service.get("pull_policy") == ("never" if images[name] == service["image"] else None), name
    for name, service in over.items():
        assert set(service) <= {"image", "build", "environment"}, name
        assert set(service.get("environment", {})) == set() or name.startswith("druid-"), name


# The same configuration as the native stack's.


def properties(file: str) -> dict[str, str]:
    lines = (line.strip() for line in (ROOT / "infra" / file).read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


#: What is a place, an address, or PostgreSQL's and the users' in compose; each of these differs, or is not there.
ELSEWHERE = re.compile(
    r"\.zk\.service\.host|metadata\.storage|storageDirectory|logs\.directory|\.(host|bindOnHost)$|plaintextPort"
    r"|extensions\.loadList|tmpDir|baseTaskDirs?|segmentCache\.locations"
)


@pytest.mark.parametrize("part", ["coordinator", "broker", "historical", "indexer"])
def test_druid_is_configured_as_on_the_native_stack(part: str) -> None:
    native = properties("druid/common.runtime.properties") | properties(f"druid/{part}.runtime.properties")
    given = SERVICES[f"druid-{part}"]["environment"]
    composed = {key.replace("_", "."): value for key, value in given.items() if key.startswith("druid_")}
    want = {key: value for key, value in native.items() if not ELSEWHERE.search(key)}
    assert {key: composed.get(key) for key in want} == want
    more = {key for key in composed if not ELSEWHERE.search(key)} - set(want)
    assert {key for key in more if not key.startswith(("druid.auth.", "druid.escalator."))} == set()


def test_kafka_is_configured_as_on_the_native_stack() -> None:
    elsewhere = re.compile(r"listener|voters|log\.dirs|^transaction\.max")
    want = {key: value for key, value in properties("kafka/server.properties").items() if not elsewhere.search(key)}
    given = SERVICES["kafka"]["environment"]
    assert {key: given.get("KAFKA_" + key.upper().replace(".", "_")) for key in want} == want
    timeout = re.search(
        r"^transaction_timeout = (\d+)$", (ROOT / "penstock.toml").read_text().split("[env.compose")[-1], re.M
    )
    assert timeout is None or int(given["KAFKA_TRANSACTION_MAX_TIMEOUT_MS"]) >= int(timeout[1]) * 1000


def test_images_are_of_the_versions_that_the_native_stack_runs() -> None:
    pom = (ROOT / "infra/jars/pom.xml").read_text()
    version = dict(re.findall(r"<(\w+)\.version>([^<]+)<", pom))
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version['kafka']}"
    assert SERVICES["druid-broker"]["image"] == f"apache/druid:{version['druid']}"
    assert f"apache-flink=={version['flink']}" in (ROOT / "infra/images/requirements.lock").read_text()


def flat(file: str) -> dict[str, str]:
    lines = (ROOT / "infra" / file).read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line and not line.startswith("#"))


def test_flinks_sizes_agree_with_the_jvms_and_the_containers() -> None:
    over, config = flat("compose/flink/config.yaml"), flat("flink/config.yaml")
    assert set(over) <= set(config), "what differs, differs from something"
    size = {key: megabytes(value) for key, value in (config | over).items() if key.startswith("taskmanager.memory.")}
    part = {key.removeprefix("taskmanager.memory."): value for key, value in size.items()}
    args = (ROOT / "infra/compose/flink/taskmanager.args").read_text()
    heap = part["framework.heap.size"] + part["task.heap.size"]
    direct = part["network.max"] + part["framework.off-heap.size"] + part["task.off-heap.size"]
    assert f"-Xmx{heap}m" in args and f"-XX:MaxDirectMemorySize={direct}m" in args
    assert f"-XX:MaxMetaspaceSize={part['jvm-metaspace.size']}m" in args
    whole = heap + direct + part["managed.size"] + part["jvm-metaspace.size"] + part["jvm-overhead.max"]
    assert whole <= megabytes(SERVICES["flink-taskmanager"]["mem_limit"])


def test_flinks_overlay_takes_the_place_of_the_same_keys() -> None:
    sys.path.insert(0, str(ROOT / "infra/images"))
    try:
        from start import overlaid  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    assert overlaid("# a\na: 1\nb: 2\n", "b: 3\n").splitlines() == ["# a", "a: 1", "b: 3", ""]


# Secrets.


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    def make() -> str:
        done = subprocess.run(
            [sys.executable, str(ROOT / "infra/compose/make_secrets.py")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    file = tmp_path / ".env"
    assert "passwords written" in make()
    text = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    values = [line.partition("=")[2] for line in text.splitlines()]
    assert len(set(values)) == len(values) and all(re.fullmatch(r"[\w-]{22,}=?", value) for value in values)
    assert "nothing to do" in make() and file.read_text() == text
    shorter = "".join(line + "\n" for line in text.splitlines()[:-1])
    file.write_text(shorter)
    assert ": 1 passwords written" in make() and file.read_text().startswith(shorter)
    assert [item.name for item in tmp_path.iterdir()] == [".env"]


def test_every_secret_that_compose_asks_for_is_made(tmp_path: Path) -> None:
    asked = set(re.findall(r"\$\{(\w+):\?run make secrets\}", (ROOT / "docker-compose.yml").read_text()))
    made = (ROOT / "infra/compose/make_secrets.py").read_text()
    assert asked == set(re.findall(r'^    "(PENSTOCK_\w+)":', made, re.M))
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert ".env" in ignored and not os.path.exists(tmp_path / ".env")
