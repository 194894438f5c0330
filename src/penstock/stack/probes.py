"""Health probes: each asks a service what its users need of it, and answers in words, or `Pending` with the state seen.

A probe never takes longer than a second or two, and never raises for a service that is not there.
"""

from __future__ import annotations

import contextlib
import socket
from functools import cache
from typing import TYPE_CHECKING, Any

from penstock.wait import Pending

if TYPE_CHECKING:
    import httpx

#: Seconds; everything is on this machine, so a slow answer is a state worth showing.
TIMEOUT = 1.5


def zookeeper(port: int) -> str | Pending:
    """Ask `srvr`: answered only when the server takes requests."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
            connection.sendall(b"srvr")
            answer = b"".join(iter(lambda: connection.recv(4096), b"")).decode(errors="replace")
    except TimeoutError:
        return Pending(f"no answer within {TIMEOUT:g} s")
    except OSError:
        return Pending("connection refused")
    mode = next((line for line in answer.splitlines() if line.startswith("Mode:")), None)
    return mode.lower() if mode else Pending("does not serve requests yet")


def kafka(port: int) -> str | Pending:
    """Ask for the cluster: a broker that is registered and a controller that leads."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT):
        return _kafka_cluster(port)
    return Pending("connection refused")


def _kafka_cluster(port: int) -> str | Pending:
    import logging

    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # The client reports a broker that is not up yet on stderr, once for each try; the probe says it in its answer.
    quiet = logging.Logger("penstock.kafka.probe")
    quiet.addHandler(logging.NullHandler())
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "socket.timeout.ms": 1000}, logger=quiet)
    try:
        metadata = client.list_topics(timeout=TIMEOUT)
    except KafkaException as error:
        return Pending(f"no metadata: {error.args[0].name() if error.args else error}")
    if not metadata.brokers:
        return Pending("the broker is not registered yet")
    topics = sum(not name.startswith("__") for name in metadata.topics)
    return f"{len(metadata.brokers)} broker, {topics} topics"


def druid_ready(url: str) -> str | Pending:
    """Ask a broker or a historical whether it has loaded what it knows of, and can be queried."""
    status, body = get(url)
    return "ready" if status == 200 else Pending(body)


def druid_coordinator(url: str) -> str | Pending:
    """Ask for leadership of both: segments (coordinator) and tasks (overlord)."""
    for role, path in (("coordinator", "druid/coordinator/v1/isLeader"), ("overlord", "druid/indexer/v1/isLeader")):
        status, body = get(f"{url}/{path}")
        if status != 200:
            return Pending(body if status == 0 else f"{role} does not lead yet")
    return "leads"


def druid_indexer(url: str, coordinator: str, worker: str) -> str | Pending:
    """Ask the indexer for its health and the overlord whether it counts it among its workers."""
    status, body = get(f"{url}/status/health")
    if status != 200:
        return Pending(body)
    status, workers = get(f"{coordinator}/druid/indexer/v1/workers")
    if status != 200:
        return Pending("the overlord does not answer")
    for item in workers:
        if item.get("worker", {}).get("host") == worker:
            return f"{item.get('currCapacityUsed', 0)} of {item['worker'].get('capacity', '?')} task slots used"
    return Pending("the overlord does not know it yet")


def flink_jobmanager(url: str) -> str | Pending:
    """Ask for the overview: answered only by the JobManager that leads."""
    status, overview = get(f"{url}/overview")
    if status != 200:
        return Pending(overview if status == 0 else "does not lead yet")
    return f"{overview['jobs-running']} jobs running"


def flink_taskmanager(url: str) -> str | Pending:
    """Ask the JobManager whether a TaskManager has offered its slots."""
    status, overview = get(f"{url}/overview")
    if status != 200:
        return Pending("waits for the JobManager")
    if overview["slots-total"] == 0:
        return Pending("has not offered its slots yet")
    return f"{overview['slots-available']} of {overview['slots-total']} slots free"


def airflow_api(url: str) -> str | Pending:
    """Ask the UI's API for its database, and the API that tasks talk to, which is built at its first request."""
    status, health = get(f"{url}/api/v2/monitor/health")
    if status != 200:
        return Pending(health)
    if health["metadatabase"]["status"] != "healthy":
        return Pending("its database does not answer")
    status, body = get(f"{url}/execution/health")
    return "serves" if status == 200 else Pending(f"tasks can't report yet: {body}")


def airflow_job(url: str, job: str) -> str | Pending:
    """Ask Airflow's API whether a scheduler, dag_processor or triggerer has lately given a sign of life."""
    status, health = get(f"{url}/api/v2/monitor/health")
    if status != 200:
        return Pending("waits for the API server")
    state = health.get(job) or {}
    beat = str(state.get(f"latest_{job}_heartbeat") or "never")
    return "heartbeats" if state.get("status") == "healthy" else Pending(f"last heartbeat: {beat[:19]}")


@cache
def _client() -> httpx.Client:
    """Return the one client: making it takes a hundred times as long as a request."""
    import httpx

    # No proxy of the environment may stand between two processes of one machine; and a connection that was kept would
    # tell of the process that a part was before its restart.
    return httpx.Client(timeout=TIMEOUT, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def get(url: str) -> tuple[int, Any]:
    """GET `url`: (status, parsed JSON or text); (0, why) where nothing answers."""
    import httpx

    try:
        response = _client().get(url)
    except httpx.ConnectError:
        return 0, "connection refused"
    except httpx.TimeoutException:
        return 0, f"no answer within {TIMEOUT:g} s"
    except httpx.HTTPError as error:
        return 0, str(error) or type(error).__name__
    if response.status_code != 200:
        return response.status_code, f"answers {response.status_code}"
    try:
        return 200, response.json()
    except ValueError:
        return 200, response.text
