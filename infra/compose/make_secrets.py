"""Write .env for docker-compose.yml: one generated password for each user, readable by its owner only.

A file that is there is never changed: its passwords are in the databases of a stack that has run.  A name that it
lacks is added.  Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def _word() -> str:
    """Letters and digits alone: it stands in addresses, in JAAS and in SQL."""
    return secrets.token_hex(20)


#: What compose asks for; Fernet wants 32 bytes, Kafka's cluster id 16, both in URL-safe base64.
NAMES: dict[str, Callable[[], str]] = {
    "PENSTOCK_KAFKA_CLUSTER_ID": lambda: base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("="),
    "PENSTOCK_KAFKA_BROKER_PASSWORD": _word,
    "PENSTOCK_KAFKA_ADMIN_PASSWORD": _word,
    "PENSTOCK_KAFKA_PASSWORD": _word,
    "PENSTOCK_KAFKA_FLINK_PASSWORD": _word,
    "PENSTOCK_KAFKA_DRUID_PASSWORD": _word,
    "PENSTOCK_DRUID_PASSWORD": _word,
    "PENSTOCK_DRUID_SYSTEM_PASSWORD": _word,
    "PENSTOCK_POSTGRES_PASSWORD": _word,
    "PENSTOCK_POSTGRES_DRUID_PASSWORD": _word,
    "PENSTOCK_POSTGRES_AIRFLOW_PASSWORD": _word,
    "PENSTOCK_AIRFLOW_PASSWORD": _word,
    "PENSTOCK_AIRFLOW_FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "PENSTOCK_AIRFLOW_API_SECRET": _word,
    "PENSTOCK_AIRFLOW_JWT_SECRET": _word,
}


def write(file: Path) -> list[str]:
    """Add the names that `file` lacks, each with a new value, and return them."""
    known = file.read_text(encoding="utf-8") if file.exists() else ""
    there = {line.partition("=")[0].strip() for line in known.splitlines() if "=" in line}
    missing = [name for name in NAMES if name not in there]
    if not missing:
        return []
    text = known if not known or known.endswith("\n") else known + "\n"
    text += "".join(f"{name}={NAMES[name]()}\n" for name in missing)
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(draft, file)
    return missing


if __name__ == "__main__":
    target = Path(".env")
    added = write(target)
    print(f"{target}: {len(added)} passwords written" if added else f"{target}: nothing to do, it has every name")
