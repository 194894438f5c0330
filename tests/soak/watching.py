"""The watch of Airflow, as its DAG has it but every few seconds: `python -m tests.soak.watching PROJECT EVERY`.

Each look is a line of JSON: when it began (epoch s), how long it took and its processor time (s), what it failed with,
what the notifiers heard.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(project: str, every: float) -> None:
    from airflow.sdk import BaseNotifier
    from airflow.sdk.exceptions import AirflowException

    from penstock.airflow.operators import WatchOperator

    heard: list[list[str]] = []

    class Hear(BaseNotifier):
        def notify(self, context: Any) -> None:
            heard.append(context["findings"])

    watch = WatchOperator(task_id="watch", project=project, notifiers=[Hear()])
    while True:
        began, worked, words = time.time(), time.process_time(), ""
        heard.clear()
        try:
            watch.execute({})
        except AirflowException as error:
            words = str(error)
        look = {"at": began, "took": time.time() - began, "cpu": time.process_time() - worked}
        print("@look " + json.dumps({**look, "words": words.splitlines(), "heard": list(heard)}), flush=True)
        time.sleep(max(0.0, began + every - time.time()))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
