"""Once a day: compaction of closed intervals, retention rules, what nothing refers to; then a report and the proof."""

from airflow.sdk import DAG, TriggerRule, chain

from penstock.airflow.declared import project
from penstock.airflow.operators import MaintenanceOperator, VerifyOperator

here = project(__file__)

with DAG(
    "penstock_maintenance",
    schedule="@daily",
    default_args=here.defaults,
    doc_md=__doc__,
    tags=["penstock"],
    max_active_runs=1,
    catchup=False,
):
    duties = [
        MaintenanceOperator(task_id=duty, duty=duty, trigger_rule=TriggerRule.ALL_DONE)
        for duty in ("compact", "rules", "delete", "report")
    ]
    ledgers = [
        VerifyOperator(task_id=f"ledger.{name}", pipeline=name, trigger_rule=TriggerRule.ALL_DONE)
        for name in here.names
    ]
    chain(*duties, ledgers)
