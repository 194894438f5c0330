"""The live job of a pipeline.  Its id is a function of what it runs and from where, so that there is never a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from penstock.airflow import links
from penstock.airflow.base import PenstockOperator
from penstock.airflow.triggers import Watch


class _JobOperator(PenstockOperator):
    """What those that act on the live job share: they look at the job that the registry names."""

    waits_for = "job running"

    def watch(self, context: Any) -> Watch:
        identity = self._job_id()
        # The live job serves everyone: no killed task cancels it.
        return self.watching(self.waits_for, identity) if identity else Watch()

    def _job_id(self) -> str:
        record = self.hook.services.registry.read().get(self.pipeline)
        return record.job_id if record is not None else ""

    def link(self) -> None:
        identity = self._job_id()
        if identity:
            self.flink_url = links.flink_job(self.hook.settings.env, identity)


class FlinkStartOperator(_JobOperator):
    """Start a pipeline's job, or resume it where it was stopped, and wait until every task of it runs.

    A job that runs is told and left alone.  `allow` are flags as of `penstock apply --allow`, or their names in a text.
    """

    template_fields: Sequence[str] = (*PenstockOperator.template_fields, "allow")

    def __init__(self, *, allow: Sequence[str] | str = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allow = allow

    def act(self, context: Any, timeout: float) -> dict[str, Any]:
        from penstock.part import apply_part
        from penstock.plan import parse_allow

        hook = self.hook
        pipelines = hook.pipelines()
        hook.pipeline(self.pipeline)
        outcome = apply_part(
            self.pipeline,
            "job",
            pipelines,
            hook.services,
            hook.settings,
            allow=parse_allow(names(self.allow)),
            progress=self.progress,
            timeout=timeout,
        )
        self.link()
        return self.tell(outcome)


class FlinkStopOperator(_JobOperator):
    """Stop a pipeline's job with a savepoint, from which the next start resumes.  A stopped one is told.

    With `cancel` no savepoint is taken: its last checkpoint is what is left.
    """

    template_fields: Sequence[str] = (*PenstockOperator.template_fields, "cancel")
    waits_for = "job ended"

    def __init__(self, *, cancel: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cancel = cancel

    def act(self, context: Any, timeout: float) -> dict[str, Any]:
        from penstock.lifecycle import stop

        hook = self.hook
        self.link()
        outcome = stop(
            self.pipeline,
            hook.services,
            hook.settings,
            cancel=flag(self.cancel),
            progress=self.progress,
            timeout=timeout,
        )
        return self.tell(outcome)


def flag(value: bool | str) -> bool:
    """Read a form's box, which a template turns into text."""
    return value if isinstance(value, bool) else str(value).strip().lower() in ("true", "1", "yes")


def names(value: Sequence[str] | str | None) -> list[str]:
    """Read a form's list of names, parted by commas or blanks."""
    if value is None or isinstance(value, str):
        return (given(value) or "").replace(",", " ").split()
    return list(value)


def given(value: Any) -> str | None:
    """Read a form's field: None where it was left empty."""
    text = "" if value is None else str(value).strip()
    return None if text in ("", "None") else text
