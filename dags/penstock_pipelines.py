"""One DAG for each declared pipeline: it is made what is declared, and proved.  A second run changes nothing."""

from airflow.sdk import DAG, chain

from penstock.airflow.declared import project
from penstock.airflow.operators import (
    DruidSupervisorOperator,
    FlinkStartOperator,
    HealthOperator,
    KafkaTopicsOperator,
    VerifyOperator,
)

here = project(__file__)

for pipeline in here.pipelines:
    shared = {**here.defaults, "pipeline": pipeline.name}
    with DAG(
        f"penstock.{pipeline.name}", default_args=shared, doc_md=pipeline.doc, tags=["penstock"], max_active_runs=1
    ) as dag:
        chain(
            KafkaTopicsOperator(task_id="topics"),
            DruidSupervisorOperator(task_id="supervisor"),
            FlinkStartOperator(task_id="start"),
            HealthOperator(task_id="healthy"),
            VerifyOperator(task_id="verify"),
        )
    globals()[dag.dag_id] = dag
