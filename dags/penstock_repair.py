"""Count late events after all: each pipeline's segments that have some are replayed, by its policy."""

from airflow.sdk import DAG, TriggerRule, chain

from penstock.airflow.declared import project
from penstock.airflow.operators import RepairOperator

here = project(__file__)

with DAG(
    "penstock_repair",
    schedule="@hourly",
    default_args=here.defaults,
    doc_md=__doc__,
    tags=["penstock"],
    max_active_runs=1,
    catchup=False,
):
    # One after the other, as each takes slots of Flink; one that fails holds no other back.
    repairs = [
        RepairOperator(task_id=pipeline.name, pipeline=pipeline.name, trigger_rule=TriggerRule.ALL_DONE)
        for pipeline in here.pipelines
    ]
    chain(*repairs)
