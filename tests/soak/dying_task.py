"""Run a DAG as `tests.airflow_run` does, and die by -9 at a call: `python -m tests.soak.dying_task MOMENT CALL ...`.

CALL is `module:Class.method` or `module:function`; MOMENT is `before` it, `amid` it (so many seconds after it began) or
`after` it.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from importlib import import_module
from typing import Any

from .. import airflow_run

#: Seconds from the beginning of the call to the kill amid it.
AMID = 0.05


def die(*_: Any) -> None:
    print("@killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(call: Any, moment: str) -> Any:
    @functools.wraps(call)
    def wrapped(*args: Any, **more: Any) -> Any:
        if moment == "before":
            die()
        if moment == "amid":
            threading.Timer(AMID, die).start()
        answer = call(*args, **more)
        if moment == "after":
            die()
        return answer

    return wrapped


def poison(target: str, moment: str) -> None:
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, import_module(module))
    setattr(owner, name, deadly(getattr(owner, name), moment))


def main(moment: str, call: str, *words: str) -> None:
    poison(call, moment)
    airflow_run.main(*words)


if __name__ == "__main__":
    main(*sys.argv[1:])
