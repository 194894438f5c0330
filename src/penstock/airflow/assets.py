"""Assets: a datasource that was published or repaired, a topic that was made.  A user's DAG is scheduled on them.

    with DAG("my_report", schedule=[datasource("carrier_daily")]): ...

They are named by environment, not by address, so that they outlive a move.  An event may come twice (a task that was
killed right after its work is run again), and is never lost.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult

from airflow.sdk import Asset, AssetAlias

#: The outlet of every operator that changes something; what it stands for is told by the events added to it.
CHANGED = AssetAlias("penstock")


def datasource(name: str, environment: str = "native") -> Asset:
    """Return the asset of a Druid datasource."""
    return Asset(f"druid://{environment}/{name}")


def topic(name: str, environment: str = "native") -> Asset:
    """Return the asset of a Kafka topic."""
    return Asset(f"kafka://{environment}/{name}")


def add_event(context: Any, asset: Asset, **extra: Any) -> None:
    """Let the task's success be an event of the asset; `extra` says what happened."""
    context["outlet_events"][CHANGED].add(asset, extra=extra)


def sanitize(uri: SplitResult) -> SplitResult:
    """Check a `druid://environment/datasource` (Airflow calls it for each).  Raises ValueError."""
    if not uri.netloc or len(uri.path.strip("/").split("/")) != 1 or uri.path == "/":
        raise ValueError(f"{uri.geturl()}: a datasource is druid://environment/name")
    return uri
