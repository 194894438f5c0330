"""Compute a past range anew from the log, and replace it in Druid in one stroke: a form, then one task a step."""

from airflow.sdk import DAG, TriggerRule, chain

from penstock.airflow.declared import box, moment, number, project, text
from penstock.airflow.operators import ReplayBeginOperator, ReplayStepOperator
from penstock.airflow.operators.replay import STEPS

here = project(__file__)
form = {
    "pipeline": here.choice(),
    "from": moment("From"),
    "to": moment("To (exclusive)"),
    "dry_run": box("Dry run", "compute and verify, publish nothing"),
    "rate": number("Rate", "the most records to read a second"),
    "reason": text("Reason", "for the receipt"),
}
asked = {"start": "{{ params['from'] }}", "end": "{{ params.to }}"}
asked |= {"dry": "{{ params.dry_run }}", "rate": "{{ params.rate }}", "reason": "{{ params.reason }}"}

shared = {**here.defaults, "pipeline": "{{ params.pipeline }}"}
with DAG("penstock_replay", default_args=shared, params=form, doc_md=__doc__, tags=["penstock"]):
    steps = [
        ReplayStepOperator(task_id=name, step=step, trigger_rule=TriggerRule.NONE_FAILED)
        for name, step in STEPS.items()
    ]
    chain(ReplayBeginOperator(task_id="begin", **asked), *steps)
