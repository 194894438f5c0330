"""What watches over pipelines: proof, health, maintenance."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowException
from airflow.triggers.base import StartTriggerArgs

from penstock.airflow.base import PenstockOperator
from penstock.airflow.operators.flink import given
from penstock.airflow.triggers import HealthTrigger
from penstock.errors import DeclarationError, NotEqualError
from penstock.wait import Pending, until


class VerifyOperator(PenstockOperator):
    """Prove a pipeline's figures between two UTC dates (default: all): read = counted + late + dead-lettered.

    Figures that are not equal fail the task at once: trying again would not mend them.  Returns the ledger's totals.
    """

    template_fields: Sequence[str] = (*PenstockOperator.template_fields, "start", "end")

    def __init__(self, *, start: str | None = None, end: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start = start
        self.end = end

    def act(self, context: Any, timeout: float) -> dict[str, Any]:
        from penstock.proof import prove, render, summary

        hook = self.hook
        ledger = prove(
            hook.pipeline(self.pipeline),
            hook.settings,
            start=given(self.start),
            end=given(self.end),
            timeout=timeout,
            progress=self.progress,
        )
        self.show(render(ledger))
        if not ledger.equal:
            raise NotEqualError(f"not equal: {self.pipeline}", hint="the task's log names each difference")
        return {
            "pipeline": self.pipeline,
            "summary": summary(ledger),
            "read": ledger.read,
            "late": ledger.late,
            "dead_lettered": ledger.dead_lettered,
            "rows_compared": ledger.rows_compared,
        }


class HealthOperator(PenstockOperator):
    """Wait until nothing of a pipeline, and of the services under it, is unhealthy.  A refused user fails at once."""

    def act(self, context: Any, timeout: float) -> str:
        from penstock.health import REFUSING, look

        hook = self.hook
        pipelines = [hook.pipeline(self.pipeline)]

        def probe() -> str | Pending:
            found = look(pipelines, hook.services)
            if refusals := [it.cause for it in found if it.state == REFUSING]:
                raise DeclarationError(refusals)
            return Pending("; ".join(f"{it.subject} {it.state}: {it.cause}" for it in found)) if found else "healthy"

        answer = until(self.pipeline, probe, timeout=timeout, interval=2.0, progress=self.progress)
        self.log.info("%s: %s", self.pipeline, answer)
        return answer


class MaintenanceOperator(PenstockOperator):
    """Do one `duty` of `penstock maintain` (compact, rules, delete) for all pipelines, or `report` what there is."""

    template_fields: Sequence[str] = (*PenstockOperator.template_fields, "duty")

    def __init__(self, *, duty: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.duty = duty

    def act(self, context: Any, timeout: float) -> list[str]:
        from penstock import maintenance

        hook = self.hook
        pipelines = hook.pipelines([self.pipeline] if self.pipeline else ())
        if self.duty == "report":
            lines = [str(account) for account in maintenance.report(pipelines, hook.services)]
        else:
            due = maintenance.plan(pipelines, hook.services, hook.settings)
            mine = [duty for duty in due if duty.kind == self.duty]
            lines = maintenance.maintain(mine, hook.services, hook.settings, progress=self.progress, timeout=timeout)
        for line in lines or ["nothing is due"]:
            self.log.info("%s", line)
        return lines


class WatchOperator(PenstockOperator):
    """Tell what is unhealthy: a trigger looks, and no process of a worker is started while all is well.

    Where something is, the task fails with what, since when and the likely cause; `notifiers` are told when that
    changes, not every minute: `{{ findings }}` and `{{ well }}` are theirs to render.  It restarts nothing.
    """

    def __init__(self, *, notifiers: Sequence[BaseNotifier] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.notifiers = list(notifiers)
        if self.deferrable:
            # The scheduler hands the task to the triggerer itself, which renders what are templates.
            self.start_from_trigger = True
            where = {"project": self.project, "environment": self.environment, "conn_id": self.conn_id}
            path = f"{HealthTrigger.__module__}.{HealthTrigger.__qualname__}"
            self.start_trigger_args = StartTriggerArgs(path, "go_on", where, timeout=timedelta(seconds=self.seconds))

    def go_on(self, context: Any, until: float = 0.0, event: Any = None) -> Any:
        if isinstance(event, str):  # `DAG.test` resumes also a task that its trigger has ended, by the state alone
            return "healthy"
        if event is not None:
            return self._tell(context, event)
        if self.deferrable:
            trigger = HealthTrigger(self.project, self.environment, self.conn_id)
            self.defer(trigger=trigger, method_name="go_on", kwargs={"until": until}, timeout=until - time.time())
        return super().go_on(context, until)

    def act(self, context: Any, timeout: float) -> str:
        return self._tell(context, HealthTrigger(self.project, self.environment, self.conn_id).report())

    def _tell(self, context: Any, report: dict[str, Any]) -> str:
        if "error" in report:
            raise AirflowException(report["error"])
        if report["changed"]:
            for notifier in self.notifiers:
                notifier({**context, "findings": report["findings"], "well": not report["findings"]})
        if report["findings"]:
            raise AirflowException("\n".join(report["findings"]))
        return "healthy"
