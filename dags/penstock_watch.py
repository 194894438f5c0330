"""Every minute: what is unhealthy, since when, and the likely cause.  It restarts nothing.

Who is to be told: any of Airflow's notifiers, in the list below, such as
SmtpNotifier(to="you@example.org", subject="penstock", html_content="{{ findings | join('<br>') }}").
"""

from airflow.sdk import DAG

from penstock.airflow.declared import project
from penstock.airflow.operators import WatchOperator

NOTIFIERS = []

here = project(__file__)

with DAG(
    "penstock_watch",
    schedule="* * * * *",
    default_args={**here.defaults, "retries": 0, "deadline": 50},
    doc_md=__doc__,
    tags=["penstock"],
    max_active_runs=1,
    catchup=False,
):
    WatchOperator(task_id="watch", notifiers=NOTIFIERS)
