"""Stop a pipeline's job with a savepoint, from which its own DAG resumes it; Druid goes on serving."""

from airflow.sdk import DAG

from penstock.airflow.declared import box, project
from penstock.airflow.operators import FlinkStopOperator

here = project(__file__)
form = {
    "pipeline": here.choice(),
    "cancel": box("Cancel", "Take no savepoint: for a job that can take none; it resumes from its last checkpoint"),
}

with DAG("penstock_stop", default_args=here.defaults, params=form, doc_md=__doc__, tags=["penstock"]):
    FlinkStopOperator(task_id="stop", pipeline="{{ params.pipeline }}", cancel="{{ params.cancel }}")
