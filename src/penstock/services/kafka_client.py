"""How Penstock's Kafka clients are configured, and what their failures mean in the user's words."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from penstock.errors import DeclarationError, PenstockError, UnavailableError
from penstock.settings import KafkaSettings

#: Seconds after which an unreachable broker is said to be unreachable.
TIMEOUT = 5.0
HINT = "is it up? `penstock status` shows the stack's parts, `penstock up` starts them"

#: librdkafka writes its log to stderr unless it is given a logger; a handler of its own may be added to this one.
#: It is handed on to no other, such as Airflow's: a line for each try to connect, where the call's error says it once.
LOGGER = logging.getLogger("penstock.kafka")
LOGGER.addHandler(logging.NullHandler())
LOGGER.propagate = False

_DOWN = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._WAIT_COORD,
    }
)
#: A broker that has just started: a coordinator or a leader is still being found, loads, or is not what a client knew.
_PASSING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_CONTROLLER,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
    }
)
_ABSENT = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})
#: A refusal that is told to a callback alone: the call that suffers from it only times out.  By the brokers' address.
_refused: dict[str, str] = {}
_FORBIDDEN = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


def client_properties(settings: KafkaSettings) -> dict[str, Any]:
    """Return librdkafka's properties for the cluster: its address and the settings' `client` in librdkafka's words.

    Two things are written differently by the Java clients, which share the same settings: the user of
    `sasl.jaas.config`, and a PEM trust store.
    """
    properties: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "client.id": "penstock",
        # After a broker's restart, be back in tenths of a second rather than after ten.
        "reconnect.backoff.max.ms": 500,
    }
    for key, value in settings.client.items():
        if key == "sasl.jaas.config":
            for name in ("username", "password"):
                found = re.search(rf'\b{name}\s*=\s*"((?:[^"\\]|\\.)*)"', value)
                if found:
                    properties[f"sasl.{name}"] = re.sub(r"\\(.)", r"\1", found[1])
        elif key == "ssl.truststore.location":
            properties["ssl.ca.location"] = value
        elif key != "ssl.truststore.type":
            properties[key] = value
    return properties


def connect(make: Callable[..., Any], properties: dict[str, Any]) -> Any:
    """Make a client (no connection yet) that logs to LOGGER; a property that librdkafka doesn't know is a mistake."""
    bootstrap = str(properties.get("bootstrap.servers"))

    def note(error: KafkaError) -> None:
        if error.code() in _FORBIDDEN:
            _refused[bootstrap] = error.str()

    try:
        return make({"error_cb": note, **properties}, logger=LOGGER)
    except KafkaException as error:
        text = error.args[0].str() if isinstance(error.args[0], KafkaError) else str(error.args[0])
        raise DeclarationError(
            f"kafka.client: {text}", hint="use properties that both librdkafka and the Java clients know"
        ) from None


def translate(error: KafkaException | KafkaError, bootstrap: str, subject: str) -> PenstockError:
    """Return the error to raise for a failed call; `subject` says what was being done, or to which topic."""
    cause = error.args[0] if isinstance(error, KafkaException) and error.args else error
    if not isinstance(cause, KafkaError):
        return PenstockError(f"{subject}: {cause}")
    code, text = cause.code(), cause.str()
    if code in _DOWN and (refusal := _refused.pop(bootstrap, None)) is not None:
        code, text = KafkaError._AUTHENTICATION, refusal
    if code in _DOWN:
        return UnavailableError(f"Kafka at {bootstrap} can't be reached ({subject}: {text})", hint=HINT)
    if code in _ABSENT:
        return DeclarationError(
            f"{subject}: there is no such topic or partition at {bootstrap}", hint="`penstock apply` creates topics"
        )
    if code in _FORBIDDEN:
        return DeclarationError(
            f"{subject}: Kafka at {bootstrap} refused access: {text}",
            hint="check kafka.client in penstock.toml, or in Airflow's connection",
        )
    if cause.retriable() or code in _PASSING:
        return UnavailableError(f"{subject}: Kafka at {bootstrap} is not ready: {text}", hint=HINT)
    return PenstockError(f"{subject}: Kafka at {bootstrap} answered: {text}")
