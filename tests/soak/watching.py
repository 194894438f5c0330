"""The watch of Airflow, as its DAG has it but every few seconds: `python -m tests.soak.watching PROJECT EVERY`.

Each look is a line of JSON: when it began (epoch s), how long it took, what it failed with, what the notifiers heard.
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
        began, words = time.time(), ""
        heard.clear()
        try:
            watch.execute({})
        except AirflowException as error:
            words = str(error)
        look = {"at": began, "took": time.time() - began, "words": words.splitlines(), "heard": list(heard)}
        print("@look " + json.dumps(look), flush=True)
        time.sleep(max(0.0, began + every - time.time()))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
