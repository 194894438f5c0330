"""Clients of the cluster's own checks: configured as every other, and their secrets read by nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock.errors import DeclarationError, RefusedError
from penstock.services import kafka_client
from penstock.settings import Settings
from penstock.stack import transactions
from penstock.stack.doctor import _broker_transaction_max

CLIENT = {
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.jaas.config": 'PlainLoginModule required username="ann" password="hunter2";',
}


def with_client(settings: Settings, client: dict[str, str]) -> Settings:
    kafka = settings.env.kafka.model_copy(update={"client": client})
    return settings.model_copy(update={"env": settings.env.model_copy(update={"kafka": kafka})})


class Asked(Exception):
    """Stands for the first call of a client."""


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Keep the properties that clients are made with."""
    seen: list[dict[str, Any]] = []

    def connect(_: object, properties: dict[str, Any]) -> Any:
        seen.append(properties)
        raise Asked

    monkeypatch.setattr(kafka_client, "connect", connect)
    return seen


def test_the_java_clients_words_are_translated_for_every_client(settings: Settings, made: list[dict[str, Any]]) -> None:
    secured = with_client(settings, CLIENT)
    with pytest.raises(Asked):
        _broker_transaction_max(secured)
    with pytest.raises(Asked):
        transactions.abort_transactions(secured.env.kafka, ["penstock-test-sales-out-1-0"], in_use=())
    for properties in made:
        assert (properties["sasl.username"], properties["sasl.password"]) == ("ann", "hunter2")
        assert "sasl.jaas.config" not in properties
    assert made[1]["transactional.id"] == "penstock-test-sales-out-1-0"


def test_a_property_that_no_client_knows_is_a_mistake_in_the_settings(settings: Settings) -> None:
    broken = with_client(settings, {"no.such.property": "1"})
    with pytest.raises(DeclarationError, match=r"no\.such\.property"):
        _broker_transaction_max(broken)
    with pytest.raises(DeclarationError, match=r"no\.such\.property"):
        transactions.abort_transactions(broken.env.kafka, ["penstock-test-sales-out-1-0"], in_use=())


def test_the_file_of_client_properties_is_its_owners_even_where_it_was_not(settings: Settings) -> None:
    secured = with_client(settings, CLIENT)
    file = Path(settings.home / "kafka-client.properties")
    for _ in range(2):
        assert transactions._client_file(secured) == file
        assert file.stat().st_mode & 0o777 == 0o600
        assert "hunter2" in file.read_text()
        file.chmod(0o644)


def test_transactions_of_a_job_that_runs_or_will_be_resumed_are_refused(settings: Settings) -> None:
    held = "penstock-native-clicks_hop-late-9978e760--1-0"
    assert transactions.run_of(held) == "9978e760"
    assert transactions.run_of("penstock-stack-test-0") == ""
    with pytest.raises(RefusedError, match="runs or will be resumed"):
        transactions.abort_transactions(settings.env.kafka, [held], in_use={"9978e760"})
