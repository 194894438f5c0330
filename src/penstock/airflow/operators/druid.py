"""Druid: a pipeline's supervisor, and batch tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from penstock.airflow import links
from penstock.airflow.assets import add_event, datasource
from penstock.airflow.base import PenstockOperator
from penstock.airflow.triggers import Watch
from penstock.errors import DeclarationError

Action = Literal["diff", "apply", "suspend", "resume"]


class DruidSupervisorOperator(PenstockOperator):
    """Make a pipeline's supervisor what is declared and wait until it runs; or show the difference, suspend, resume.

    A supervisor that is as declared is told and left alone: posting it again would restart its tasks.
    """

    template_fields: Sequence[str] = (*PenstockOperator.template_fields, "action")

    def __init__(self, *, action: Action = "apply", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action = action

    def act(self, context: Any, timeout: float) -> Any:
        from penstock import part, render

        hook, name = self.hook, self.pipeline
        hook.pipeline(name)
        self.druid_url = links.supervisor(hook.settings.env, name)
        match self.action:
            case "diff":
                made = part.diff_part(name, "supervisor", hook.pipelines(), hook.services, hook.settings)
                lines = [*(render.line(step) for step in made.changes), render.summary(made)]
                for line in lines:
                    self.log.info("%s", line)
                return {"changes": len(made.changes), "lines": lines}
            case "apply":
                outcome = part.apply_part(
                    name,
                    "supervisor",
                    hook.pipelines(),
                    hook.services,
                    hook.settings,
                    progress=self.progress,
                    timeout=timeout,
                )
                return self.tell(outcome)
            case "suspend":
                return self.tell(
                    part.suspend(name, hook.services, hook.settings, progress=self.progress, timeout=timeout)
                )
            case "resume":
                return self.tell(part.resume(name, hook.services, hook.settings))
            case _:
                known = "diff, apply, suspend, resume"
                raise DeclarationError(f"{self.action!r} can't be done to a supervisor; there are: {known}")

    def watch(self, context: Any) -> Watch:
        return self.watching("supervisor running", self.pipeline) if self.action == "apply" else Watch()


class DruidIndexOperator(PenstockOperator):
    """Run a batch task (`index_parallel`, `compact`, ...) to its end, once for each run of the DAG.

    `spec` is the task as JSON (or a template of it); its id is made from `identity`, by default of the DAG's run and
    the task, so that Druid refuses a second one.  Cleared after its success it changes nothing; a failed one is tried
    anew.  On a kill or at the deadline the task is cancelled: it has published all of its segments, or none.
    """

    template_fields: Sequence[str] = (*PenstockOperator.template_fields, "spec", "identity")
    template_fields_renderers = {"spec": "json"}  # noqa: RUF012  (Airflow's own convention)
    template_ext: Sequence[str] = (".json",)

    def __init__(self, *, spec: Mapping[str, Any] | str, identity: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self.identity = identity

    def act(self, context: Any, timeout: float) -> dict[str, Any]:
        from penstock.tasks import run_task

        hook = self.hook
        spec = json.loads(self.spec) if isinstance(self.spec, str) else self.spec
        outcome = run_task(hook.services.druid, self._identity(context), spec, progress=self.progress, timeout=timeout)
        self.druid_url = links.druid_task(hook.settings.env, outcome.task)
        if outcome.datasource:
            add_event(context, datasource(outcome.datasource, hook.settings.env.name), task=outcome.task)
        self.log.info("%s", outcome.line)
        return {"changed": outcome.changed, "task": outcome.task}

    def watch(self, context: Any) -> Watch:
        from penstock.tasks import newest

        task = newest(self.hook.services.druid, self._identity(context))
        return self.watching("task ended", task, cancels=True) if task else Watch()

    def _identity(self, context: Any) -> str:
        env = self.hook.settings.env.name
        return f"penstock_index_{env}_{self.identity or run_identity(context, self.task_id)}"


def run_identity(context: Any, *more: str) -> str:
    """Return an id of this run of the DAG: the same in each try, and after a clear."""
    import hashlib

    run = context["dag_run"]
    digest = hashlib.sha256("\n".join([run.dag_id, run.run_id, *more]).encode()).hexdigest()
    return f"{run.run_after:%Y%m%dT%H%M%S}-{digest[:8]}"
