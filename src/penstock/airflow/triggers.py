"""The trigger of every operator: looks at a service until what is waited for is over.  Changes nothing by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from penstock.errors import PenstockError, UnavailableError

#: Seconds that a job may take to end once it is told to, while a killed task waits for that.
CANCEL = 20.0


@dataclass(frozen=True)
class Watch:
    """What is looked at: `flink` and `druid` are addresses, `kind` one of KINDS, `id` the job, task or supervisor.

    `cancel` is whether it is to be cancelled where a user kills the task.
    """

    kind: str = "nap"
    id: str = ""
    flink: str = ""
    druid: str = ""
    cancel: bool = False


KINDS = ("nap", "job ended", "job running", "task ended", "supervisor running")


class ServiceTrigger(BaseTrigger):
    """Fires when what is watched is over, or at `until` (epoch seconds).

    The event tells why the task waits and what was seen; the task that resumes looks for itself.  A service that does
    not answer is asked again.  Killed and begun anew elsewhere, it looks on: it keeps nothing.
    """

    def __init__(self, watch: dict[str, Any], until: float, every: float = 3.0, why: str = "") -> None:
        super().__init__()
        self.watch = watch
        self.until = until
        self.every = every
        self.why = why

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"watch": self.watch, "until": self.until, "every": self.every, "why": self.why}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        watch = Watch(**self.watch)
        seen = ""
        while time.time() < self.until:
            await asyncio.sleep(max(0.0, min(self.every, self.until - time.time())))
            try:
                over, seen = await asyncio.to_thread(look, watch)
            except UnavailableError as error:
                over, seen = False, error.message
            except PenstockError as error:
                over, seen = True, error.message
            if over:
                break
        told = "; ".join(filter(None, (self.why, seen)))
        yield TriggerEvent({"seen": told or "nothing seen yet", "until": self.until})

    async def on_kill(self) -> None:
        """Cancel what is to be cancelled; called where a user marks or clears the waiting task."""
        await asyncio.to_thread(cancel, Watch(**self.watch))


def look(watch: Watch) -> tuple[bool, str]:
    """Return whether it is over, and what was seen."""
    from penstock.services.druid import Druid
    from penstock.services.flink import Flink
    from penstock.settings import DruidSettings, FlinkSettings

    if watch.kind in ("job ended", "job running"):
        flink = Flink(FlinkSettings(rest=watch.flink))
        try:
            job = flink.job(watch.id)
        finally:
            flink.close()
        state = "unknown to Flink" if job is None else job.state
        ended = job is not None and not (job.live or job.leaving)
        over = ended or (watch.kind == "job running" and job is not None and job.running)
        return over, f"job {watch.id} is {state}"
    if watch.kind in ("task ended", "supervisor running"):
        druid = Druid(DruidSettings(coordinator=watch.druid))
        try:
            if watch.kind == "task ended":
                state = druid.task_state(watch.id) or "unknown to Druid"
                return state in ("SUCCESS", "FAILED"), f"task {watch.id} is {state}"
            there = druid.supervisors().get(watch.id)
            return there is not None and there.running, f"supervisor {watch.id} is {there.state if there else 'absent'}"
        finally:
            druid.close()
    return True, ""  # a nap: why it is taken says more


def cancel(watch: Watch) -> None:
    """Cancel the watched job or task, where that was asked for; what has ended is left alone."""
    from penstock.services.druid import Druid
    from penstock.services.flink import Flink
    from penstock.settings import DruidSettings, FlinkSettings

    if not watch.cancel:
        return
    if watch.kind == "job ended":
        Flink(FlinkSettings(rest=watch.flink)).cancel(watch.id, timeout=CANCEL)
    elif watch.kind == "task ended":
        Druid(DruidSettings(coordinator=watch.druid)).cancel_task(watch.id)


def as_dict(watch: Watch) -> dict[str, Any]:
    return asdict(watch)


class HealthTrigger(BaseTrigger):
    """Looks once at everything, and ends the task by itself where all is well and was so before."""

    def __init__(self, project: str | None = None, environment: str | None = None, conn_id: str | None = None) -> None:
        super().__init__()
        self.project = project
        self.environment = environment
        self.conn_id = conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"project": self.project, "environment": self.environment, "conn_id": self.conn_id}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            report = await asyncio.to_thread(self.report)
        except PenstockError as error:
            report = {"error": str(error)}
        quiet = not report.get("findings") and not report.get("changed") and "error" not in report
        yield TaskSuccessEvent(xcoms={"return_value": "healthy"}) if quiet else TriggerEvent(report)

    def report(self) -> dict[str, Any]:
        """Return what is unhealthy, in words, and whether that is news."""
        from penstock.airflow.hooks import PenstockHook
        from penstock.health import check, known

        hook = PenstockHook(self.conn_id, project=self.project, environment=self.environment)
        before = known(hook.settings)
        found = check(hook.pipelines(), hook.services, hook.settings)
        changed = set(known(hook.settings)) != set(before)
        return {"findings": [str(item) for item in found], "changed": changed}
