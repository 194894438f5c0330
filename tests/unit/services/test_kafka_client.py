"""Settings become librdkafka's properties; failures become errors that say what to do."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from penstock.errors import DeclarationError, PenstockError, UnavailableError
from penstock.services.kafka import Kafka
from penstock.services.kafka_client import client_properties, connect, translate
from penstock.settings import KafkaSettings


def test_the_java_clients_words_are_translated() -> None:
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    settings = KafkaSettings(
        bootstrap="a:1,b:2",
        client={
            "security.protocol": "SASL_SSL",
            "sasl.jaas.config": rf'{module} required username="ann" password="a\"b\\c";',
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "/ca.pem",
        },
    )
    properties = client_properties(settings)
    assert properties["bootstrap.servers"] == "a:1,b:2"
    assert properties["security.protocol"] == "SASL_SSL"
    assert (properties["sasl.username"], properties["sasl.password"]) == ("ann", 'a"b\\c')
    assert properties["ssl.ca.location"] == "/ca.pem"
    assert not {"sasl.jaas.config", "ssl.truststore.type", "ssl.truststore.location"} & set(properties)


def test_a_refused_user_is_told_to_a_callback_and_said_by_the_call_that_only_timed_out() -> None:
    kept: dict[str, Any] = {}
    connect(lambda properties, logger: kept.update(properties), {"bootstrap.servers": "broker:9"})
    kept["error_cb"](KafkaError(KafkaError._ALL_BROKERS_DOWN))
    timed_out = KafkaException(KafkaError(KafkaError._TRANSPORT))
    assert isinstance(translate(timed_out, "broker:9", "asking for its topics"), UnavailableError)
    kept["error_cb"](KafkaError(KafkaError._AUTHENTICATION, "SASL: wrong password"))
    assert isinstance(translate(timed_out, "other:9", "asking for its topics"), UnavailableError)
    refused = translate(timed_out, "broker:9", "asking for its topics")
    assert isinstance(refused, DeclarationError)
    assert refused.message == "asking for its topics: Kafka at broker:9 refused access: SASL: wrong password"
    assert isinstance(translate(timed_out, "broker:9", "asking for its topics"), UnavailableError), "said once"


def test_an_unknown_property_is_a_mistake_in_the_settings() -> None:
    kafka = Kafka(KafkaSettings(client={"no.such.property": "1"}))
    with pytest.raises(DeclarationError, match=r"no\.such\.property"):
        kafka.topics(["a"])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError._TRANSPORT, UnavailableError),
        (KafkaError._ALL_BROKERS_DOWN, UnavailableError),
        (KafkaError.NOT_COORDINATOR, UnavailableError),
        (KafkaError._TIMED_OUT, UnavailableError),
        (KafkaError.NOT_COORDINATOR, UnavailableError),
        (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, UnavailableError),
        (KafkaError.NOT_LEADER_FOR_PARTITION, UnavailableError),
        (KafkaError.UNKNOWN_LEADER_EPOCH, UnavailableError),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, DeclarationError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, DeclarationError),
        (KafkaError.INVALID_CONFIG, PenstockError),
    ],
)
def test_a_failure_becomes_the_error_that_fits(code: int, kind: type[PenstockError]) -> None:
    error = translate(KafkaException(KafkaError(code)), "broker:9", "reading x.y.v1")
    assert type(error) is kind
    assert "broker:9" in error.message
    assert "reading x.y.v1" in error.message


def test_a_broker_that_is_down_is_named_soon_and_without_noise(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        kafka = Kafka(KafkaSettings(bootstrap=address), timeout=0.5)
        for call in (
            lambda: kafka.topics(["a"]),
            lambda: kafka.end_offsets("a", committed=True),
            lambda: list(kafka.read("a", {}, {0: 1})),
        ):
            began = time.monotonic()
            with pytest.raises(UnavailableError, match=address) as caught:
                call()
            assert time.monotonic() - began < 3
            assert "penstock up" in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_group_is_reset_when_its_coordinator_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh broker makes it when it is first asked for: the first apply on a fresh stack met that."""
    answers = [KafkaException(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)), None]
    sent: list[list[TopicPartition]] = []

    class Reader:
        def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
            sent.append(offsets)
            if (answer := answers.pop(0)) is not None:
                raise answer

    kafka = Kafka(KafkaSettings())
    monkeypatch.setattr(kafka, "start_offsets", lambda topic: {0: 7})
    monkeypatch.setattr(kafka, "_reader_of", lambda group: Reader())
    kafka.reset_group("g", "a.b.v1")
    assert [[(it.partition, it.offset) for it in offsets] for offsets in sent] == [[(0, 7)], [(0, 7)]]
