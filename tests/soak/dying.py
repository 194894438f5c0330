"""Run a replay as the command line does, and kill a process with -9 at a moment of it: `python -m tests.soak.dying`.

The moment is the first state that the replay shows which matches a pattern, such as "3/9 settle".  The victim is a
process by its id, or this one.  What was killed, and when, is told in a line of stdout before anything else happens.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

from penstock.cli.context import fail
from penstock.errors import PenstockError
from penstock.load import load_pipelines
from penstock.replay.run import asked, prepare, refuse, run
from penstock.replay.scope import scope
from penstock.services.protocols import connect
from penstock.settings import load_settings


class Killer:
    """The progress that kills: once, at the first state that matches."""

    def __init__(self, moment: str, pid: int) -> None:
        self.moment, self.pid, self.done = re.compile(moment), pid, False

    def update(self, text: str) -> None:
        if not self.done and self.moment.search(text):
            self.done = True
            print(json.dumps({"killed": time.time(), "at": text}), flush=True)
            os.kill(self.pid, signal.SIGKILL)


def main() -> None:
    request = json.loads(sys.argv[1])
    settings = load_settings(Path(request["project"]))
    services = connect(settings)
    pipeline = next(it for it in load_pipelines(settings.jobs) if it.name == request["pipeline"])
    within = scope(pipeline, request["start"], request["end"])
    wanted = asked(within, dry_run=False, rate=request["rate"], reason="a fault")
    made = prepare(pipeline, within, wanted, services, settings, id=request["id"])
    refuse(made)
    killer = Killer(request["moment"], request["pid"] or os.getpid())
    run(pipeline, made.replay, services, settings, progress=killer, timeout=request["timeout"])


if __name__ == "__main__":
    try:
        main()
    except PenstockError as error:
        fail(error)
