"""Run one DAG in this process, as `python -m tests.airflow_run FILE DAG_ID [AT] [CONF]`, and print what became of it.

`AT` (a UTC date and time) is the run: the same one again is that run cleared and tried again.  The last line of stdout
is JSON: the state of the run, of each task, and what each returned.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime


def main(file: str, dag_id: str, at: str = "", conf: str = "{}") -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(file)
    assert not bag.import_errors, bag.import_errors
    when = datetime.fromisoformat(at).replace(tzinfo=UTC) if at else datetime.now(UTC)
    run = bag.dags[dag_id].test(logical_date=when, run_after=when, run_conf=json.loads(conf))
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    instances = {it.task_id: str(it.state) for it in run.get_task_instances()}
    with create_session() as session:
        rows = session.scalars(XComModel.get_many(run_id=run.run_id, dag_ids=dag_id)).all()
        values = {f"{row.task_id}.{row.key}": row.value for row in rows}
    found = {"state": str(run.state), "run": run.run_id, "tasks": instances, "values": values}
    print(json.dumps(found, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
