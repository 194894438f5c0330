"""Each operator alone, and all of them in a row under one fault: what tests/soak/test_operators.py runs.

`life.<name>` are the stages of one pipeline's life, in order.  Of the others all tasks are tried, whatever becomes of
the one before, and each failure is told in a line of the log: whether Airflow would try again, and the message.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, TriggerRule, chain
from airflow.sdk.exceptions import AirflowFailException

from penstock.airflow.declared import project
from penstock.airflow.operators import (
    DruidIndexOperator,
    DruidSupervisorOperator,
    FlinkStartOperator,
    FlinkStopOperator,
    FlinkUpgradeOperator,
    HealthOperator,
    KafkaTopicsOperator,
    MaintenanceOperator,
    RepairOperator,
    ReplayBeginOperator,
    ReplayStepOperator,
    VerifyOperator,
    WatchOperator,
)

here = project(__file__)
FIRST_HOUR = {"start": "2024-06-01T00:00:00+00:00", "end": "2024-06-01T01:00:00+00:00"}
SECOND_HOUR = {"start": "2024-06-01T01:00:00+00:00", "end": "2024-06-01T02:00:00+00:00"}
#: The replay that is noted, and not finished, while the services fail.
HELD = "{{ dag_run.conf.held }}"
COMPACTION = {
    "type": "compact",
    "dataSource": "visits",
    "ioConfig": {"type": "compact", "inputSpec": {"type": "interval", "interval": "2024-06-01T00/2024-06-01T01"}},
    "context": {"useConcurrentLocks": True},
}
#: A batch task that outlasts its deadline, which a small compaction may not.
LONG = {"type": "noop", "runTime": 120_000}

OPERATORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "topics": (KafkaTopicsOperator, {}),
    "supervisor": (DruidSupervisorOperator, {}),
    "start": (FlinkStartOperator, {}),
    "healthy": (HealthOperator, {}),
    "verify": (VerifyOperator, {}),
    "diff": (DruidSupervisorOperator, {"action": "diff"}),
    "begin": (ReplayBeginOperator, {**FIRST_HOUR, "reason": "a drill"}),
    "receipt": (ReplayStepOperator, {"step": "receipt"}),
    "index": (DruidIndexOperator, {"spec": COMPACTION}),
    "repair": (RepairOperator, {}),
    "compact": (MaintenanceOperator, {"duty": "compact"}),
    "rules": (MaintenanceOperator, {"duty": "rules"}),
    "delete": (MaintenanceOperator, {"duty": "delete"}),
    "report": (MaintenanceOperator, {"duty": "report"}),
    "watch": (WatchOperator, {}),
    "suspend": (DruidSupervisorOperator, {"action": "suspend"}),
    "resume": (DruidSupervisorOperator, {"action": "resume"}),
    "stop": (FlinkStopOperator, {}),
    "restart": (FlinkStartOperator, {}),
    "cancel": (FlinkStopOperator, {"cancel": True}),
    "upgrade": (FlinkUpgradeOperator, {}),
}

shared = {**here.defaults, "pipeline": "visits"}


def tell(context: Any) -> None:
    error = context.get("exception")
    what = "done" if error is None else "fails" if isinstance(error, AirflowFailException) else "tries again"
    told = {"task": context["ti"].task_id, "try": context["ti"].try_number, "what": what, "words": str(error or "")}
    print("@told " + json.dumps(told), flush=True)


def row(
    dag_id: str, names: Collection[str] = (), changed: Mapping[str, dict[str, Any]] | None = None, **more: Any
) -> None:
    """All operators or those named, one after the other, each whatever became of the one before.

    `changed` are other arguments of some.
    """
    others = {"receipt": {"replay_id": HELD}, **(changed or {})}
    told = {"on_success_callback": tell, "on_failure_callback": tell, "on_retry_callback": tell}
    with DAG(dag_id, default_args={**shared, "retry_delay": timedelta(0), **told, **more}) as dag:
        tasks = []
        for name in names or OPERATORS:
            kind, arguments = OPERATORS[name]
            asked = {**arguments, **others.get(name, {})}
            tasks.append(kind(task_id=name, trigger_rule=TriggerRule.ALL_DONE, **asked))
        chain(*tasks)
    globals()[dag_id] = dag


for name, (kind, arguments) in OPERATORS.items():
    with DAG(f"life.{name}", default_args={**shared, "retries": 0}) as dag:
        if name == "receipt":
            ReplayBeginOperator(task_id="begin", **OPERATORS["begin"][1]) >> kind(task_id=name, **arguments)
        else:
            kind(task_id=name, **arguments)
    globals()[dag.dag_id] = dag

with DAG("held", default_args={**shared, "retries": 0}) as dag:
    ReplayBeginOperator(task_id="begin", replay_id=HELD, **SECOND_HOUR, reason="to be held")

with DAG("cut", default_args={**shared, "retries": 0}) as dag:
    begun = ReplayBeginOperator(task_id="begin", **SECOND_HOUR, rate=10, reason="to be cut off")
    begun >> ReplayStepOperator(task_id="compute", step="compute", deadline=timedelta(seconds=45))

row("down", retries=0, deadline=timedelta(seconds=10))
row("refused", retries=1, conn_id="refused", deadline=timedelta(seconds=10))
row("late", changed={"index": {"spec": LONG}}, retries=0, deadline=timedelta(seconds=1))
row("allowed", ("diff", "verify", "report", "watch"), retries=0, conn_id="allowed")
row("sasl", ("topics",), retries=0, conn_id="sasl")
