"""The read limit: Kafka's own consumer benchmark, which does nothing with what it reads."""

from __future__ import annotations

import subprocess

from bench.stage import Stage
from penstock.errors import PenstockError
from penstock.stack import java

TOOL = "org.apache.kafka.tools.ConsumerPerformance"


def consumer_benchmark(stage: Stage, topic: str, events: int) -> float:
    """Return the events/s that one consumer fetches, joining its group left out; raise PenstockError if it fails."""
    command = java.find(stage.settings.stack)
    words = [str(command), "-Xmx512m", "-cp", f"{stage.settings.jars / 'kafka'}/*", TOOL, "--hide-header"]
    words += ["--bootstrap-server", stage.settings.env.kafka.bootstrap, "--topic", topic, "--messages", str(events)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise PenstockError(f"Kafka's consumer benchmark failed:\n{(done.stderr or done.stdout).strip()[-1000:]}")
    return fetch_rate(done.stdout, events)


def fetch_rate(text: str, events: int) -> float:
    """Return the last column, fetch.nMsg.sec, of the benchmark's line; raise PenstockError where it read too few.

    The columns: start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms,
    fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec.
    """
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    found = next((row for row in reversed(rows) if len(row) == 10), None)
    if found is None or int(found[4]) < events:
        raise PenstockError(f"Kafka's consumer benchmark did not read {events} events: {text.strip()[-300:]!r}")
    return float(found[9])
