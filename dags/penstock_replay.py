"""Compute a past range anew from the log, and replace it in Druid in one stroke: a form, then one task a step."""

from airflow.sdk import DAG, TriggerRule, chain

from penstock.airflow.declared import box, moment, number, project, text
from penstock.airflow.operators import ReplayBeginOperator, ReplayStepOperator
from penstock.airflow.operators.replay import STEPS

here = project(__file__)
form = {
    "pipeline": here.choice(),
    "from": moment("From", "UTC; the range is widened to whole segments, since those are replaced"),
    "to": moment("To", "UTC; the first moment that is left out; its windows must be closed"),
    "dry_run": box("Dry run", "Compute and verify, show the difference, publish nothing"),
    "rate": number("Rate", "The most records to read a second; empty: as fast as it goes"),
    "reason": text("Reason", "Why, for the receipt"),
    "allow": text("Allow", "What is refused otherwise, by its name, as the refusal tells: empty-segments"),
}
asked = {"start": "{{ params['from'] }}", "end": "{{ params.to }}", "allow": "{{ params.allow }}"}
asked |= {"dry": "{{ params.dry_run }}", "rate": "{{ params.rate }}", "reason": "{{ params.reason }}"}

shared = {**here.defaults, "pipeline": "{{ params.pipeline }}"}
with DAG("penstock_replay", default_args=shared, params=form, doc_md=__doc__, tags=["penstock"]):
    steps = [
        ReplayStepOperator(task_id=name, step=step, trigger_rule=TriggerRule.NONE_FAILED)
        for name, step in STEPS.items()
    ]
    chain(ReplayBeginOperator(task_id="begin", **asked), *steps)
