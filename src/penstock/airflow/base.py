"""What every operator of Penstock has: a deadline, a place given up while it waits, errors in Airflow's terms.

    execute    fix the deadline (wall clock), then act
    act        the command line's own function; it may be killed at any line and run again, with the same end state
    Yielded    a wait has lasted: cede the worker's slot to a trigger that only looks, then act again
So no state is kept between two runs, and nothing has to be remembered for a retry: what was begun is found by its id.
"""

from __future__ import annotations

import math
import re
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout

from penstock.airflow.assets import CHANGED
from penstock.airflow.hooks import PenstockHook
from penstock.airflow.links import DruidLink, FlinkLink
from penstock.airflow.triggers import ServiceTrigger, Watch, as_dict, cancel
from penstock.errors import BusyError, DeclarationError, NotEqualError, PenstockError, RefusedError
from penstock.wait import Yielded, yielding

if TYPE_CHECKING:
    from penstock.lifecycle import Outcome

#: Seconds that a wait may hold a worker's slot; longer than what is usual of the quick ones.
PLACE = 15.0
#: Seconds by which a wait's own timeout is later than the deadline, which is told better.
SLACK = 60.0
#: Seconds between two looks, and until a wait that nobody can look at is tried again.
EVERY = 3.0
#: Characters that the page of a log shows in a line, in a window of 1280 pixels.
WIDTH = 115


class PenstockOperator(BaseOperator):
    """Base of all: acts on one `pipeline` of a `project`, in one of its environments, or by a connection's addresses.

    `deadline` is how long a try may take in wall-clock time, deferrals included.  When it passes, remote work that
    serves only this task is cancelled, and the try fails; Airflow's `retries` give each a deadline of its own.
    """

    template_fields: Sequence[str] = ("pipeline", "project", "environment", "conn_id")
    operator_extra_links = (FlinkLink(), DruidLink())
    ui_color = "#e8f1f5"

    def __init__(
        self,
        *,
        pipeline: str = "",
        project: str | None = None,
        environment: str | None = None,
        conn_id: str | None = None,
        deadline: timedelta | float = timedelta(minutes=30),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        kwargs["outlets"] = [*(kwargs.get("outlets") or []), CHANGED]
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.project = project
        self.environment = environment
        self.conn_id = conn_id
        self.deadline = deadline
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> PenstockHook:
        return PenstockHook(self.conn_id, project=self.project, environment=self.environment)

    def execute(self, context: Any) -> Any:
        return self.go_on(context, time.time() + self.seconds)

    @property
    def seconds(self) -> float:
        """Return how long a try may take."""
        return self.deadline.total_seconds() if isinstance(self.deadline, timedelta) else float(self.deadline)

    def go_on(self, context: Any, until: float = 0.0, event: Any = None) -> Any:
        """Act, or act again; `until` is the deadline in epoch seconds, `event` what a trigger has seen.

        `DAG.test` hands on the event alone: the deadline is in both.
        """
        until = until or event["until"]
        seen = (event or {}).get("seen", "nothing was done yet")
        while (left := until - time.time()) > 0:
            try:
                with in_airflows_terms(self.log), yielding(self.place, within=left):
                    return self.act(context, left + SLACK)
            except (Yielded, BusyError) as waiting:
                seen = str(waiting)
            if time.time() >= until:
                break
            if self.deferrable:
                self.log.info("deferred: %s", seen)
                trigger = ServiceTrigger(as_dict(self.watch(context)), until, EVERY, seen)
                self.defer(trigger=trigger, method_name="go_on", kwargs={"until": until})
            time.sleep(min(EVERY, max(0.0, until - time.time())))
        self._give_up(context)
        at = datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds")
        raise AirflowTaskTimeout(f"{self.task_id}: not done by its deadline {at}; last seen: {seen}")

    @abstractmethod
    def act(self, context: Any, timeout: float) -> Any:
        """Do the work; `timeout` (seconds) is for its waits, and never sooner than the deadline.

        What dies in it is run again, and ends the same.
        """

    @property
    def place(self) -> float:
        """Return how long a wait may hold the worker's slot, in seconds."""
        return PLACE if self.deferrable else math.inf

    def watch(self, context: Any) -> Watch:
        """Return what to look at while the work waits; a nap where nothing tells when to go on."""
        return Watch()

    def _give_up(self, context: Any) -> None:
        try:
            cancel(self.watch(context))
        except PenstockError as error:
            self.log.warning("what was begun could not be cancelled: %s", error.message)

    def on_kill(self) -> None:
        """End what this process has begun, then what it has begun elsewhere; Airflow gives it five seconds."""
        import psutil
        from airflow.sdk import get_current_context

        # Left alone, the planner of a job would submit it after all.
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
        self._give_up(get_current_context())

    # For those that derive from it.

    def watching(self, kind: str, identity: str, *, cancels: bool = False) -> Watch:
        env = self.hook.settings.env
        return Watch(kind, identity, env.flink.rest, env.druid.coordinator, cancels)

    def tell(self, outcome: Outcome) -> dict[str, Any]:
        """Log what was done, and return it."""
        for line in outcome.lines:
            self.log.info("%s", line)
        return {"changed": outcome.changed, "lines": list(outcome.lines)}

    def show(self, text: Any) -> None:
        """Log what the command line prints, where a user reads it: Airflow shows a log as it is, with its tables."""
        # From the left margin: the first line would begin behind the time.
        self.log.info("\n%s", plain(text))

    @property
    def progress(self) -> LogProgress:
        return LogProgress(self.log)


class LogProgress:
    """Shows in the task's log what is waited for: new words at once, other numbers every few seconds."""

    def __init__(self, log: Any, every: float = 5.0) -> None:
        self._log, self._every = log, every
        self._last, self._shown = "", 0.0

    def update(self, text: str) -> None:
        now = time.monotonic()
        new = _words(text) != _words(self._last)
        if text != self._last and (new or now - self._shown >= self._every):
            self._last, self._shown = text, now
            self._log.info("%s", text)


def _words(text: str) -> str:
    return re.sub(r"[\d.,]+", "", text)


def plain(text: Any) -> str:
    """Return what the command line prints as plain text, no wider than a log is shown beside Airflow's grid."""
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    Console(file=out, width=WIDTH).print(text)
    return out.getvalue().rstrip()


@contextmanager
def in_airflows_terms(log: Any) -> Iterator[None]:
    """Let Airflow try again only what may pass: a mistake, a refusal or a proof that failed stays what it is.

    The message is logged by itself: Airflow shows that of an exception as the head of a stack trace.
    """
    try:
        yield
    except BusyError:
        raise
    except PenstockError as error:
        log.error("%s", error)
        final = isinstance(error, (DeclarationError, RefusedError, NotEqualError))
        raise (AirflowFailException if final else AirflowException)(str(error)) from None
