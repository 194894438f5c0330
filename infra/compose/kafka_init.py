"""Kafka's users and what each may do.  Run by compose each time it goes up; a second time it changes nothing.

    penstock  makes topics, writes and reads them, sets quotas: what `penstock` does for its user
    flink     reads sources, writes results, late records and dead letters in its own transactions
    druid     reads results

The broker's own user and this script's are in the broker's settings; nobody else may change users or rights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

TIMEOUT = 60
#: Topics in which Penstock keeps its own account; `penstock.` begins all of its topics.
ACCOUNTS = ("penstock.registry.v1", "penstock.replays", "penstock.redrives")

TOPIC, GROUP, IDS, CLUSTER = (
    ResourceType.TOPIC,
    ResourceType.GROUP,
    ResourceType.TRANSACTIONAL_ID,
    ResourceType.BROKER,
)
ALL, PREFIX = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
OP = AclOperation

#: user, resource, name, whether the name is a beginning, operations
RIGHTS = (
    ("penstock", CLUSTER, "kafka-cluster", ALL, (OP.CREATE, OP.DESCRIBE, OP.DESCRIBE_CONFIGS, OP.ALTER_CONFIGS)),
    ("penstock", TOPIC, "*", ALL, (OP.CREATE, OP.DESCRIBE, OP.READ, OP.WRITE, OP.DELETE, OP.ALTER)),
    ("penstock", TOPIC, "*", ALL, (OP.DESCRIBE_CONFIGS, OP.ALTER_CONFIGS)),
    ("penstock", GROUP, "penstock", PREFIX, (OP.READ, OP.DESCRIBE, OP.DELETE)),
    ("penstock", IDS, "penstock-", PREFIX, (OP.DESCRIBE, OP.WRITE)),
    ("flink", TOPIC, "*", ALL, (OP.DESCRIBE, OP.READ)),
    ("flink", TOPIC, "penstock.", PREFIX, (OP.DESCRIBE, OP.WRITE)),
    ("flink", GROUP, "penstock-", PREFIX, (OP.DESCRIBE, OP.READ)),
    ("flink", IDS, "penstock-", PREFIX, (OP.DESCRIBE, OP.WRITE)),
    ("druid", TOPIC, "penstock.", PREFIX, (OP.DESCRIBE, OP.READ)),
)


def users() -> dict[str, str]:
    return {
        "penstock": os.environ["PENSTOCK_KAFKA_PASSWORD"],
        "flink": os.environ["PENSTOCK_KAFKA_FLINK_PASSWORD"],
        "druid": os.environ["PENSTOCK_KAFKA_DRUID_PASSWORD"],
    }


def rights() -> Iterator[AclBinding]:
    """Yield every right, and the one refusal: a job has no say in what Penstock keeps about it."""
    for user, resource, name, pattern, operations in RIGHTS:
        for operation in operations:
            yield AclBinding(resource, name, pattern, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
    for name in ACCOUNTS:
        yield AclBinding(TOPIC, name, ALL, "User:flink", "*", OP.WRITE, AclPermissionType.DENY)


def main() -> None:
    password = os.environ["PENSTOCK_KAFKA_ADMIN_PASSWORD"]
    admin = AdminClient(
        {
            "bootstrap.servers": "kafka:9094",
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": "admin",
            "sasl.password": password,
        }
    )
    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    changes = [UserScramCredentialUpsertion(name, how, secret.encode()) for name, secret in users().items()]
    for future in admin.alter_user_scram_credentials(changes, request_timeout=TIMEOUT).values():
        future.result()
    wanted = set(rights())
    anything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, OP.ANY, AclPermissionType.ANY
    )
    there = set(admin.describe_acls(anything, request_timeout=TIMEOUT).result())
    for binding in there - wanted:
        filters = [
            AclBindingFilter(
                binding.restype,
                binding.name,
                binding.resource_pattern_type,
                binding.principal,
                binding.host,
                binding.operation,
                binding.permission_type,
            )
        ]
        for future in admin.delete_acls(filters, request_timeout=TIMEOUT).values():
            future.result()
    if wanted - there:
        for future in admin.create_acls(sorted(wanted - there), request_timeout=TIMEOUT).values():
            future.result()
    print(
        f"{len(users())} users; {len(wanted - there)} rights given, {len(there - wanted)} taken, {len(wanted)} in all"
    )


if __name__ == "__main__":
    main()
