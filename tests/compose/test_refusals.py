"""Every port refuses who has not said who he is, or who has no right to what he asks."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from .stack import ROOT, Compose

SOURCE, OUT, REGISTRY = "flights.departed.v1", "penstock.flights_raw.out", "penstock.registry.v1"
TOPIC, GROUP = KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED
CLUSTER, IDS = KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
Act = Callable[[dict[str, Any]], None]


def properties(stack: Compose, user: str | None, password: str = "") -> dict[str, Any]:
    """As `user` on the listener for this machine: one that is known there has its own password."""
    found: dict[str, Any] = {"bootstrap.servers": f"127.0.0.1:{stack.ports['KAFKA']}", "log_level": 0}
    if user is None:
        return found
    name = "PENSTOCK_KAFKA_PASSWORD" if user == "penstock" else f"PENSTOCK_KAFKA_{user.upper()}_PASSWORD"
    login = {"sasl.username": user, "sasl.password": password or stack.secrets[name]}
    return {**found, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", **login}


def failure(act: Act, who: dict[str, Any]) -> int:
    """Return the code by which the broker refuses."""
    with pytest.raises(KafkaException) as refused:
        act(who)
    code: int = refused.value.args[0].code()
    return code


def settle(who: dict[str, Any], ask: Callable[[AdminClient], dict[Any, Future[Any]]]) -> None:
    """Ask as administrator and wait for each answer; a client that nobody holds would give its requests up."""
    admin = AdminClient(who)
    for future in ask(admin).values():
        future.result(timeout=30)


def listing(who: dict[str, Any]) -> None:
    heard: list[KafkaError] = []
    admin = AdminClient({**who, "error_cb": heard.append})
    try:
        admin.list_topics(timeout=8)
    except KafkaException:
        admin.poll(1)
        # What a call suffers from is told beside it: the call itself only times out.
        raise KafkaException(next(it for it in heard if it.code() == KafkaError._AUTHENTICATION)) from None


def reading(topic: str, group: str = "nobody") -> Act:
    def act(who: dict[str, Any]) -> None:
        alone = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        with closing(Consumer({**who, **alone})) as consumer:
            # Of a topic that he may not even see, a consumer waits for partitions.
            if unseen := consumer.list_topics(topic, timeout=20).topics[topic].error:
                raise KafkaException(unseen)
            consumer.assign([TopicPartition(topic, 0, 0)])
            for _ in range(30):
                message = consumer.poll(1)
                # Whoever assigns partitions to himself needs no group, but the client asks for its coordinator.
                if message is None or (message.error() and message.error().code() == GROUP):
                    continue
                if message.error():
                    raise KafkaException(message.error())
                return
        raise TimeoutError(f"nothing was read from {topic}")

    return act


def committing(topic: str, group: str) -> Act:
    moved = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 1)])

    def act(who: dict[str, Any]) -> None:
        # A consumer waits for its group's coordinator for ever; this asks as it does, and hears the refusal.
        settle(who, lambda admin: admin.alter_consumer_group_offsets([moved]))

    return act


def writing(topic: str) -> Act:
    def act(who: dict[str, Any]) -> None:
        failed: list[KafkaError] = []
        producer = Producer({**who, "message.timeout.ms": 20_000})
        producer.produce(topic, b"{}", on_delivery=lambda error, _: failed.append(error) if error else None)
        producer.flush(25)
        if failed:
            raise KafkaException(failed[0])

    return act


def in_transaction(identity: str) -> Act:
    def act(who: dict[str, Any]) -> None:
        Producer({**who, "transactional.id": identity}).init_transactions(20)

    return act


def creating(who: dict[str, Any]) -> None:
    settle(who, lambda admin: admin.create_topics([NewTopic("penstock.intruder", 1, 1)]))


def deleting(who: dict[str, Any]) -> None:
    settle(who, lambda admin: admin.delete_topics([SOURCE]))


def giving_rights(who: dict[str, Any]) -> None:
    right = AclBinding(
        ResourceType.TOPIC,
        "*",
        ResourcePatternType.LITERAL,
        "User:druid",
        "*",
        AclOperation.ALL,
        AclPermissionType.ALLOW,
    )
    settle(who, lambda admin: admin.create_acls([right]))


def changing_passwords(who: dict[str, Any]) -> None:
    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    change = UserScramCredentialUpsertion("druid", how, b"mine")
    settle(who, lambda admin: admin.alter_user_scram_credentials([change]))


def test_kafka_hears_nobody_without_a_name(flown: Compose) -> None:
    with pytest.raises(KafkaException):
        AdminClient(properties(flown, None)).list_topics(timeout=8)


@pytest.mark.parametrize("user", ["penstock", "flink", "druid", "nobody"])
def test_kafka_refuses_a_wrong_password(flown: Compose, user: str) -> None:
    assert failure(listing, properties(flown, user, "wrong")) == KafkaError._AUTHENTICATION


@pytest.mark.parametrize("user", ["broker", "admin"])
def test_kafkas_own_users_are_not_let_in_from_this_machine(flown: Compose, user: str) -> None:
    assert failure(listing, properties(flown, user)) == KafkaError._AUTHENTICATION


@pytest.mark.parametrize(
    ("user", "act", "code"),
    [
        ("flink", writing(SOURCE), TOPIC),
        ("flink", writing(REGISTRY), TOPIC),
        ("flink", creating, TOPIC),
        ("flink", deleting, TOPIC),
        ("flink", giving_rights, CLUSTER),
        ("flink", changing_passwords, CLUSTER),
        ("flink", in_transaction("others-1"), IDS),
        ("flink", committing(SOURCE, "others"), GROUP),
        ("druid", reading(SOURCE), TOPIC),
        ("druid", writing(OUT), TOPIC),
        ("druid", creating, TOPIC),
        ("druid", deleting, TOPIC),
        ("druid", giving_rights, CLUSTER),
        ("druid", changing_passwords, CLUSTER),
        ("druid", in_transaction("penstock-compose-1"), IDS),
        ("penstock", giving_rights, CLUSTER),
        ("penstock", changing_passwords, CLUSTER),
    ],
    ids=lambda it: it if isinstance(it, str) else getattr(it, "__qualname__", str(it)).split(".")[0],
)
def test_kafkas_users_may_do_what_they_need_and_no_more(flown: Compose, user: str, act: Act, code: int) -> None:
    assert failure(act, properties(flown, user)) == code


@pytest.mark.parametrize(("user", "act"), [("penstock", reading(SOURCE, "penstock-x")), ("druid", reading(OUT))])
def test_the_same_calls_do_work_for_whom_they_are_meant(flown: Compose, user: str, act: Act) -> None:
    act(properties(flown, user))


@pytest.mark.parametrize("path", ["dags", "connections", "variables", "config", "dags/penstock_replay/dagRuns"])
def test_airflow_asks_who_is_there(flown: Compose, path: str) -> None:
    url = f"{flown.airflow().url}/api/v2/{path}"
    assert httpx.get(url, trust_env=False, timeout=60).status_code == 401
    forged = {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."}
    assert httpx.get(url, headers=forged, trust_env=False, timeout=60).status_code in (401, 403)


def test_airflow_starts_nothing_for_a_stranger(flown: Compose) -> None:
    url = f"{flown.airflow().url}/api/v2/dags/penstock_replay/dagRuns"
    answer = httpx.post(url, json={"logical_date": None, "conf": {}}, trust_env=False, timeout=60)
    assert answer.status_code == 401


@pytest.mark.parametrize(("user", "password"), [("admin", "admin"), ("admin", ""), ("airflow", "airflow")])
def test_airflow_refuses_a_wrong_password(flown: Compose, user: str, password: str) -> None:
    login = {"username": user, "password": password}
    answer = httpx.post(f"{flown.airflow().url}/auth/token", json=login, trust_env=False, timeout=60)
    assert answer.status_code in (400, 401), answer.text
    assert "access_token" not in answer.text


def test_flink_takes_no_program_from_a_stranger(flown: Compose) -> None:
    url = f"http://127.0.0.1:{flown.ports['FLINK']}"
    assert httpx.get(f"{url}/config", trust_env=False, timeout=60).json()["features"]["web-submit"] is False
    jar = {"jarfile": ("evil.jar", b"PK\x05\x06" + bytes(18), "application/java-archive")}
    refused = httpx.post(f"{url}/jars/upload", files=jar, trust_env=False, timeout=60)
    assert (refused.status_code, refused.json()) == (400, {"errors": ["POST request not allowed"]})
    assert httpx.get(f"{url}/jars", trust_env=False, timeout=60).status_code == 404
    assert httpx.post(f"{url}/jars/any/run", trust_env=False, timeout=60).status_code == 404


def test_the_other_services_have_no_port_on_this_machine(flown: Compose) -> None:
    running = {it["Service"]: flown.inspect(it["Service"])["NetworkSettings"]["Ports"] for it in flown.containers()}
    published = {name for name, ports in running.items() if any(ports.values())}
    asked = {"kafka", "flink-jobmanager", "druid-broker", "druid-coordinator", "druid-router", "airflow-api-server"}
    assert published == asked


def test_kafka_has_one_listener_on_this_machine(flown: Compose) -> None:
    with closing(socket.create_connection(("127.0.0.1", flown.ports["KAFKA"]), timeout=5)):
        pass
    found = flown.inspect("kafka")["NetworkSettings"]["Ports"]
    assert [port for port, bound in found.items() if bound] == ["9192/tcp"]


def postgres(stack: Compose, user: str, password: str | None, database: str) -> str:
    """Try to connect from another container, over the network; return what the server says."""
    code = (
        "import sys, psycopg2\n"
        "try:\n"
        "    user, database, password = *sys.argv[1:], sys.stdin.read() or None\n"
        "    psycopg2.connect(host='postgres', user=user, dbname=database, password=password)\n"
        "    print('connected')\n"
        "except psycopg2.OperationalError as error:\n"
        "    print(error)\n"
    )
    words = ["docker", "compose", "exec", "-T", "airflow-scheduler", "python", "-c", code, user, database]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env=stack.environ,
        input=password or "",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("user", ["postgres", "druid", "airflow"])
def test_postgres_wants_a_password(flown: Compose, user: str) -> None:
    assert "no password supplied" in postgres(flown, user, None, "airflow")
    assert "password authentication failed" in postgres(flown, user, "wrong", "airflow")


def test_postgres_shows_a_database_to_its_owner_alone(flown: Compose) -> None:
    druid, airflow = (flown.secrets[f"PENSTOCK_POSTGRES_{name}_PASSWORD"] for name in ("DRUID", "AIRFLOW"))
    assert "permission denied for database" in postgres(flown, "druid", druid, "airflow")
    assert "permission denied for database" in postgres(flown, "airflow", airflow, "druid")
    assert postgres(flown, "druid", druid, "druid").strip() == "connected"
    assert postgres(flown, "airflow", airflow, "airflow").strip() == "connected"
