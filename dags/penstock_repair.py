"""Count late events after all: each pipeline is asked whether its own policy wants that now (`repair=...`)."""

from airflow.sdk import DAG, TriggerRule, chain

from penstock.airflow.declared import project
from penstock.airflow.operators import RepairOperator

here = project(__file__)

with DAG(
    "penstock_repair",
    schedule="*/10 * * * *",
    default_args=here.defaults,
    doc_md=__doc__,
    tags=["penstock"],
    max_active_runs=1,
    catchup=False,
):
    # One after the other, as each takes slots of Flink; one that fails holds no other back.
    repairs = [
        RepairOperator(task_id=name, pipeline=name, due=True, trigger_rule=TriggerRule.ALL_DONE) for name in here.names
    ]
    chain(*repairs)
