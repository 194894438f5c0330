"""Settings of an environment that others start: addresses from two sides, secrets from a file, none handed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.druid import supervisor_spec
from penstock.errors import DeclarationError
from penstock.flink.spec import job_spec
from penstock.settings import Environment, KafkaSettings, Settings, load_settings
from tests.unit.memory import windowed

ROOT = Path(__file__).parents[2]
#: As docker-compose.yml sets them in a container.
INSIDE = {
    "PENSTOCK_KAFKA_HOST": "kafka",
    "PENSTOCK_KAFKA_PORT": "9092",
    "PENSTOCK_FLINK_HOST": "flink-jobmanager",
    "PENSTOCK_FLINK_PORT": "8081",
    "PENSTOCK_DRUID_BROKER_HOST": "druid-broker",
    "PENSTOCK_DRUID_COORDINATOR_HOST": "druid-coordinator",
}
SECRETS = {"PENSTOCK_KAFKA_PASSWORD": "kafka-secret", "PENSTOCK_DRUID_PASSWORD": "druid-secret"}


def compose(tmp_path: Path, environ: dict[str, str]) -> Settings:
    (tmp_path / "penstock.toml").write_text((ROOT / "penstock.toml").read_text())
    return load_settings(tmp_path, env="compose", environ=environ)


def artefacts(env: Environment) -> str:
    return repr((job_spec(windowed(), env), supervisor_spec(windowed(), env)))


def test_host_and_container_see_other_addresses_and_derive_the_same_artefacts(tmp_path: Path) -> None:
    host, inside = compose(tmp_path, SECRETS).env, compose(tmp_path, SECRETS | INSIDE).env
    assert (host.kafka.bootstrap, inside.kafka.bootstrap) == ("127.0.0.1:29092", "kafka:9092")
    assert (host.flink.rest, inside.flink.rest) == ("http://127.0.0.1:29081", "http://flink-jobmanager:8081")
    assert "@druid-broker:" in inside.druid.broker and "@127.0.0.1:" in host.druid.broker
    assert artefacts(host) == artefacts(inside)


def test_no_secret_is_in_what_jobs_and_supervisors_are_given(tmp_path: Path) -> None:
    env = compose(tmp_path, SECRETS).env
    assert "kafka-secret" in env.kafka.client["sasl.jaas.config"] and "druid-secret" in env.druid.broker
    made = artefacts(env)
    given = supervisor_spec(windowed(), env)["spec"]["ioConfig"]["consumerProperties"]
    # Druid's own way to a variable of its environment.
    provider = given["druid.dynamic.config.provider"]
    assert provider == {"type": "environment", "variables": {"sasl.jaas.config": "PENSTOCK_KAFKA_JAAS"}}
    assert "secret" not in made and "SCRAM-SHA-512" in made and "'properties.bootstrap.servers' = 'kafka:9092'" in made


def test_secrets_come_from_the_environments_file_and_the_environment_goes_before(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# made\nPENSTOCK_KAFKA_PASSWORD=of=the file\n\nPENSTOCK_DRUID_PASSWORD=of the file\n"
    )
    env = compose(tmp_path, {"PENSTOCK_DRUID_PASSWORD": "own", "PENSTOCK_KAFKA_PORT": "31092"}).env
    assert 'password="of=the file"' in env.kafka.client["sasl.jaas.config"]
    assert env.druid.broker.startswith("http://admin:own@") and env.kafka.bootstrap == "127.0.0.1:31092"


def test_a_secret_that_is_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"\$\{PENSTOCK_KAFKA_PASSWORD\} is not set"):
        compose(tmp_path, {})


@pytest.mark.parametrize(
    "name",
    ["sasl.jaas.config", "sasl.password", "ssl.key.password", "ssl.keystore.key", "sasl.oauthbearer.client.secret"],
)
def test_a_secret_of_the_client_is_handed_on_to_nobody(name: str, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=f"would be given {name}"):
        KafkaSettings(client={name: "x"}).given()
    (tmp_path / "penstock.toml").write_text(
        f'[env.prod.kafka.inside]\nbootstrap = "k:1"\nclient = {{ "{name}" = "x" }}\n'
    )
    with pytest.raises(DeclarationError, match="would be kept and shown by Flink and Druid"):
        load_settings(tmp_path, env="prod", environ={})


def test_what_is_no_secret_is_handed_on_as_before() -> None:
    client = {"security.protocol": "SSL", "ssl.truststore.location": "/ca.pem", "ssl.truststore.type": "PEM"}
    assert KafkaSettings(bootstrap="k:1", client=client).given() == {"bootstrap.servers": "k:1", **client}
