"""`penstock doctor`: everything that must be right, asked one by one; nothing is changed."""

from __future__ import annotations

from penstock.errors import PenstockError
from penstock.settings import Settings
from penstock.stack import checks, java
from penstock.stack.checks import Check
from penstock.stack.transactions import open_transactions

#: Seconds that a restart of a job may take before its transactions must still be open: detection, the slowest restart
#: measured (a JobManager's, under 30 s), and the pauses between tries.
LONGEST_RESTART = 120.0

#: A transaction lives for one checkpoint interval; one ten times as old, and older than this, is nobody's.
HANGING_AFTER = 60.0


def doctor(settings: Settings, cluster: bool = True) -> list[Check]:
    """Ask the machine, and with `cluster` the services that answer.  Raises only for settings that can't be used."""
    answers = [
        checks.python_check(),
        checks.java_check(settings),
        checks.tool_check("mvn", "fetches the jars and builds the project's own"),
        checks.tool_check("make", "runs the project's targets"),
        checks.pyflink_check(),
        checks.supervisor_check(),
        checks.airflow_check(),
        checks.jars_check(settings),
        checks.state_check(settings),
        checks.memory_check(settings),
        checks.disk_check(settings),
        checks.ports_check(settings),
        checks.manager_check(settings),
    ]
    return answers + (cluster_checks(settings) if cluster else [])


def cluster_checks(settings: Settings) -> list[Check]:
    """Ask Kafka whether transactions last long enough, and which have lasted too long."""
    try:
        broker_max = _broker_transaction_max(settings)
    except PenstockError as error:
        return [Check("kafka", "warning", error.message, "its transaction settings were not checked")]
    return [transaction_timeout_check(settings, broker_max), transactions_check(settings)]


def transaction_timeout_check(settings: Settings, broker_max: float) -> Check:
    """Compare, in seconds: broker's maximum >= the sink's timeout > checkpoint interval + longest restart."""
    flink = settings.env.flink
    least = flink.checkpoint_interval + LONGEST_RESTART
    found = (
        f"broker's transaction.max.timeout.ms {broker_max:g} s, transaction_timeout {flink.transaction_timeout:g} s, "
        f"checkpoint interval + longest restart {least:g} s"
    )
    where = f"[env.{settings.env.name}.flink] transaction_timeout in penstock.toml"
    if broker_max < flink.transaction_timeout:
        return Check("transaction timeout", "failed", found, f"raise the broker's, or lower {where}")
    if flink.transaction_timeout <= least:
        return Check("transaction timeout", "failed", f"{found}: a restart would lose what it holds", f"raise {where}")
    return Check("transaction timeout", "ok", found)


def transactions_check(settings: Settings) -> Check:
    """Name the transactions that have been open for so long that no running job can own them."""
    command = java.find(settings.stack)
    if command is None:
        return Check("transactions", "warning", "not listed: there is no Java", "")
    age = max(HANGING_AFTER, 10 * settings.env.flink.checkpoint_interval)
    try:
        hanging = open_transactions(settings, command, older_than=age)
    except PenstockError as error:
        return Check("transactions", "warning", error.message, "")
    if hanging:
        ids = ", ".join(item.transactional_id for item in hanging)
        hint = "readers of committed records wait for them; start their job again, or abort them if it is gone for good"
        return Check("transactions", "failed", f"{len(hanging)} open for more than {age:g} s: {ids}", hint)
    return Check("transactions", "ok", f"none open for more than {age:g} s")


def _broker_transaction_max(settings: Settings) -> float:
    """Return the broker's transaction.max.timeout.ms in seconds; raise UnavailableError where Kafka does not answer."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

    from penstock.errors import UnavailableError
    from penstock.services.kafka_client import client_properties, connect

    kafka = settings.env.kafka
    client = connect(AdminClient, client_properties(kafka))
    try:
        brokers = client.list_topics(timeout=3).brokers
        resource = ConfigResource(ConfigResource.Type.BROKER, str(min(brokers)))
        config = client.describe_configs([resource], request_timeout=5)[resource].result()
    except KafkaException:
        raise UnavailableError(f"Kafka at {kafka.bootstrap} does not answer", hint="penstock up") from None
    return int(config["transaction.max.timeout.ms"].value) / 1000
