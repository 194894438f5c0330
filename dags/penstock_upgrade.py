"""Go over from the version of a pipeline that runs to the one that is declared."""

from airflow.sdk import DAG, chain

from penstock.airflow.declared import maybe_moment, number, project, text
from penstock.airflow.operators import FlinkUpgradeOperator, HealthOperator, VerifyOperator

here = project(__file__)
form = {
    "pipeline": here.choice(),
    "replay_from": maybe_moment("Replay from", "UTC; all figures from there on are computed anew; empty: in place"),
    "rate": number("Rate", "The most records of the past to read a second; empty: as fast as it goes"),
    "reason": text("Reason", "Why, for the receipt"),
    "allow": text("Allow", "What is refused otherwise, by its name, as the refusal tells: unhealed, empty-segments"),
}
asked = {"replay_from": "{{ params.replay_from }}", "rate": "{{ params.rate }}", "reason": "{{ params.reason }}"}
asked |= {"allow": "{{ params.allow }}"}

shared = {**here.defaults, "pipeline": "{{ params.pipeline }}"}
with DAG("penstock_upgrade", default_args=shared, params=form, doc_md=__doc__, tags=["penstock"], max_active_runs=1):
    chain(
        FlinkUpgradeOperator(task_id="upgrade", **asked),
        HealthOperator(task_id="healthy"),
        VerifyOperator(task_id="verify"),
    )
