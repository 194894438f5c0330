"""Limits at the brokers, on what a replay's consumers fetch: Kafka's client quotas.

Set in the planner's JVM: librdkafka's admin client knows no quotas, Java's is there, in Flink's Kafka connector.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from penstock.settings import KafkaSettings

#: Bytes a second that a consumer may fetch from one broker.
FETCHED = "consumer_byte_rate"
#: Seconds for the brokers to take a quota.
TIMEOUT = 30
#: Answers of a cluster that lets us set no quotas, or has none: then there is none to take away either.
_NONE_TO_LIFT = ("ClusterAuthorizationException", "UnsupportedVersionException")


#: Where Flink's Kafka connector keeps Kafka's clients, login modules among them.
_SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka."


def quota_client(kafka: KafkaSettings) -> dict[str, str]:
    """Return the properties by which the planner's Java client reaches the brokers, as Penstock itself does."""
    client = {key: re.sub(r"(?<![\w.])org\.apache\.kafka\.", _SHADED, value) for key, value in kafka.client.items()}
    return {"bootstrap.servers": kafka.bootstrap, **client}


class QuotaError(Exception):
    """The brokers did not take a quota."""


def set_quotas(jvm: Any, client: Mapping[str, str], quotas: Mapping[str, float | None]) -> None:
    """Set each client id's quota (bytes/s, of each broker); None takes it away, wherever it came from.

    `client` are the properties to reach the brokers by.  Raises QuotaError where they refuse a limit.
    """
    kafka = jvm.org.apache.flink.kafka.shaded.org.apache.kafka
    properties = jvm.java.util.Properties()
    for key, value in client.items():
        properties.setProperty(key, value)
    admin = None
    try:
        admin = kafka.clients.admin.AdminClient.create(properties)
        answer = admin.alterClientQuotas(_alterations(jvm, kafka, quotas))
        answer.all().get(TIMEOUT, jvm.java.util.concurrent.TimeUnit.SECONDS)
    except Exception as error:
        lifted = all(rate is None for rate in quotas.values())
        if not (lifted and any(name in str(error) for name in _NONE_TO_LIFT)):
            raise QuotaError(str(error)) from error
    finally:
        if admin is not None:
            admin.close()


def _alterations(jvm: Any, kafka: Any, quotas: Mapping[str, float | None]) -> Any:
    found = jvm.java.util.ArrayList()
    for client_id, rate in sorted(quotas.items()):
        entity = jvm.java.util.HashMap()
        entity.put("client-id", client_id)
        # Java wants a Double or null, and would not take an int for one.
        operation = kafka.common.quota.ClientQuotaAlteration.Op(FETCHED, rate if rate is None else float(rate))
        operations = jvm.java.util.ArrayList()
        operations.add(operation)
        whom = kafka.common.quota.ClientQuotaEntity(entity)
        found.add(kafka.common.quota.ClientQuotaAlteration(whom, operations))
    return found
