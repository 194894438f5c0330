"""Kafka's storage, formatted once: a KRaft broker starts only on a directory that was given a cluster id."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import uuid
from pathlib import Path

from penstock.errors import PenstockError
from penstock.settings import Settings
from penstock.stack.layout import layout
from penstock.stack.processes import MARK

#: Version 2 raises a producer's epoch with every transaction: at one checkpoint a second the 32,767 epochs of a
#: producer id are used up within ten hours, and the commit at that boundary moves the producer to another id.  Flink
#: repeats the last commits when it recovers, by the id and epoch in its checkpoint; the one at the boundary then fails,
#: and the job with it (FLINK-40689).  Version 1 raises the epoch only when a producer starts anew.
FEATURES = ("transaction.version=1",)


def format_storage(settings: Settings, java: Path) -> bool:
    """Format Kafka's directory unless that was done before; say whether it was done now.

    The work is done beside it and renamed, so that an interrupted one leaves nothing that looks finished.
    """
    place = layout(settings)
    if (place.kafka_data / "meta.properties").is_file():
        return False
    fresh = place.state / "kafka.new"
    shutil.rmtree(fresh, ignore_errors=True)
    rendered = (place.conf / "kafka" / "server.properties").read_text(encoding="utf-8")
    properties = place.conf / "kafka" / "format.properties"
    properties.write_text(rendered.replace(f"log.dirs={place.kafka_data}\n", f"log.dirs={fresh}\n"), encoding="utf-8")
    done = subprocess.run(
        [*tool_command(settings, java), "kafka.tools.StorageTool", "format"]
        + ["--cluster-id", _cluster_id(), "--config", str(properties)]
        + [word for feature in FEATURES for word in ("--feature", feature)],
        capture_output=True,
        text=True,
        env={**os.environ, MARK: str(place.state)},
    )
    if done.returncode != 0 or not (fresh / "meta.properties").is_file():
        raise PenstockError(f"Kafka's storage can't be formatted in {fresh}:\n{(done.stdout + done.stderr).strip()}")
    fresh.rename(place.kafka_data)
    return True


def tool_command(settings: Settings, java: Path) -> list[str]:
    """Return the command line, short of the main class, of one of Kafka's own tools: it lives for a second or two."""
    log4j = layout(settings).conf / "kafka" / "tools-log4j2.properties"
    small = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
    return [str(java), *small, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{settings.jars / 'kafka'}/*"]


def _cluster_id() -> str:
    """Return a random id as Kafka writes them: 22 characters of base64, the first no dash (it would be an option)."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
