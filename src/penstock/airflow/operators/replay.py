"""Replays and repairs.  A replay's id is made from the run of the DAG, so that no try and no clear begins a second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from penstock.airflow import links
from penstock.airflow.assets import add_event, datasource
from penstock.airflow.base import PenstockOperator
from penstock.airflow.operators.druid import run_identity
from penstock.airflow.operators.flink import flag, given, names
from penstock.airflow.triggers import Watch
from penstock.errors import DeclarationError

if TYPE_CHECKING:
    from penstock.errors import PenstockError
    from penstock.replay.mend import Report
    from penstock.replay.record import Replay

#: The steps of replays, by the ids of their tasks and in their order; each replay has those that apply to it.
STEPS = {
    "close": "close",
    "stop": "stop",
    "cut": "cut",
    "settle": "settle",
    "compute": "compute",
    "verify": "verify",
    "hand_off": "hand off",
    "publish": "publish",
    "check": "check",
    "resume": "resume",
    "receipt": "receipt",
}

#: Seconds in which a step may see nothing change, as for the command line.
UNCHANGED = 300.0

#: Why a replay has no such step.
SKIPPED = {
    "close": "it has no windows that must close",
    "stop": "its live job goes on: late events are told from those that were counted",
    "hand off": "a dry run publishes nothing",
    "publish": "a dry run publishes nothing",
    "check": "a dry run publishes nothing",
    "resume": "its live job was not stopped",
}


class ReplayOperator(PenstockOperator):
    """What the tasks of a replay share: its id, and what they look at while its job or its task is at work."""

    template_fields: Sequence[str] = (*PenstockOperator.template_fields, "replay_id")

    def __init__(self, *, replay_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.replay_id = replay_id

    def id(self, context: Any) -> str:
        """Return the replay's id: the one given, else one of this run of the DAG."""
        return given(self.replay_id) or f"{self.pipeline}-{run_identity(context)}"

    def known(self, context: Any) -> Replay | None:
        """Return the replay as it is recorded.  An upgrade's is not for these tasks: it has other steps."""
        found = self.hook.services.replays.read().get(self.id(context))
        if found is not None and found.handover is not None:
            hint = f"`penstock upgrade {found.pipeline}`, or the DAG penstock_upgrade, goes on with it"
            raise DeclarationError(f"{found.id} is an upgrade, not a replay", hint=hint)
        return found

    def watch(self, context: Any) -> Watch:
        return self.watch_replay(self.hook.services.replays.read().get(self.id(context)))

    def watch_replay(self, replay: Replay | None) -> Watch:
        """Return what a replay waits for: its bounded job, which nobody else needs; its task, which is never cut off.

        Any other wait is short, or ends by what nobody can look at cheaply: it is tried again.
        """
        from penstock.replay.derive import batch_job_id, task_id

        env = self.hook.settings.env.name
        if replay is None or replay.status != "running":
            return Watch()
        if replay.task and "publish" not in replay.done:
            return self.watching("task ended", task_id(env, replay.id, replay.task))
        if replay.attempt and "compute" not in replay.done:
            return self.watching("job ended", batch_job_id(env, replay.id, replay.attempt), cancels=True)
        return Watch()

    def link(self, replay: Replay) -> None:
        from penstock.replay.derive import batch_job_id, task_id

        env = self.hook.settings.env
        if replay.attempt:
            self.flink_url = links.flink_job(env, batch_job_id(env.name, replay.id, replay.attempt))
        if replay.task:
            self.druid_url = links.druid_task(env, task_id(env.name, replay.id, replay.task))


class ReplayBeginOperator(ReplayOperator):
    """Check what is asked for, plan it, and note the replay; what the command line would refuse is refused here.

    `start` and `end` are UTC, widened to whole segments; with `dry` nothing is published, and `allow` are flags
    as of `penstock replay --allow`.  Returns the replay's id.
    """

    template_fields: Sequence[str] = (*ReplayOperator.template_fields, "start", "end", "dry", "rate", "reason", "allow")

    def __init__(
        self,
        *,
        start: str,
        end: str,
        dry: bool | str = False,
        rate: float | str | None = None,
        reason: str = "",
        allow: Sequence[str] | str = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.start = start
        self.end = end
        self.dry = dry
        self.rate = rate
        self.reason = reason
        self.allow = allow

    def act(self, context: Any, timeout: float) -> str:
        from penstock.plan import parse_allow
        from penstock.replay.begin import Request, begin
        from penstock.replay.record import FLAGS

        hook = self.hook
        request = Request(
            given(self.pipeline),
            given(self.start),
            given(self.end),
            flag(self.dry),
            rate(self.rate),
            reason(self.reason, context),
            None,
            parse_allow(names(self.allow), FLAGS),
        )
        if request.pipeline is None:
            raise DeclarationError("a pipeline, --from and --to are needed", hint="choose one in the form")
        hook.pipeline(request.pipeline)
        self.known(context)
        begun = begin(
            Request(**(vars(request) | {"id": self.id(context)})), hook.pipelines, hook.services, hook.settings
        )
        if begun.plan is None:
            self.log.info("replay %s was begun before; it is %s", begun.replay.id, begun.replay.status)
            return begun.replay.id
        from penstock.replay import render

        self.show(render.plan_text(begun.plan))
        begun.refuse()
        from penstock.replay.run import note

        return note(begun.pipeline, begun.replay, hook.services, hook.settings, timeout=timeout).id


class ReplayStepOperator(ReplayOperator):
    """Run a replay through one step (a value of STEPS), whatever is not done before it; a step it lacks is skipped.

    A step that is done is told.  The bounded job of `compute` is cancelled on a kill and at the deadline, as nobody
    else needs it; the task of `publish` never is.  The check's success is an event of the datasource's asset; the
    receipt is what the command line shows, in the log.  Returns the verdict.
    """

    template_fields: Sequence[str] = (*ReplayOperator.template_fields, "step")

    def __init__(self, *, step: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step

    @property
    def place(self) -> float:
        # A check that is not equal is an alarm, not a wait: begun anew it would never be one.
        return math.inf if self.step == "check" else super().place

    def act(self, context: Any, timeout: float) -> dict[str, Any] | str:
        from penstock.replay import render
        from penstock.replay.run import run, steps_of

        hook = self.hook
        identity = self.id(context)
        known = self.known(context)
        if known is None:
            raise DeclarationError(f"there is no replay {identity!r} to go on with", hint="run the task before it")
        pipeline = hook.pipeline(known.pipeline)
        if self.step not in {step.kind for step in steps_of(pipeline, known)}:
            raise AirflowSkipException(
                f"{known.pipeline} is not to {self.step}: {SKIPPED.get(self.step, 'no such step')}"
            )
        if known.status == "abandoned":
            raise DeclarationError(f"replay {identity} was given up at {known.ended}", hint="run the DAG anew")
        done = run(
            pipeline,
            known,
            hook.services,
            hook.settings,
            progress=self.progress,
            timeout=min(timeout, UNCHANGED),
            through=self.step,
        )
        self.link(done)
        if self.step in known.done:
            self.log.info("nothing to do: %s of %s is done", self.step, identity)
        if self.step == "check":
            span = {"from": done.asked.wide_start, "to": done.asked.wide_end}
            add_event(context, datasource(done.pipeline, hook.settings.env.name), replay=done.id, **span)
        if self.step != "receipt":
            return {"replay": done.id, "step": self.step, "seconds": done.seconds.get(self.step)}
        self.show(render.receipt(done))
        return render.verdict(done)


class RepairOperator(ReplayOperator):
    """Count a pipeline's late events after all: finish a repair that was broken off, then replay what is ready.

    With `due` only where the pipeline's own policy wants it now, as `penstock repair --due`.  Run again, it replays
    nothing.  Each segment that was repaired is an event of the datasource's asset; one that was refused fails the task.
    """

    def __init__(self, *, due: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.due = due

    def act(self, context: Any, timeout: float) -> dict[str, Any]:
        from penstock.replay.mend import repair, repair_due
        from penstock.replay.render_repair import due_text

        hook = self.hook
        pipeline = hook.pipeline(self.pipeline)
        more: dict[str, Any] = {"progress": self.progress, "timeout": min(timeout, UNCHANGED)}
        if not self.due:
            report = repair(pipeline, hook.services, hook.settings, **more)
            return self._told(context, report, report.complaint)
        turn = repair_due(pipeline, hook.services, hook.settings, **more)
        if turn.due is not None:
            self.log.info("%s", due_text(pipeline.name, pipeline.repair, turn.due))
        return self._told(context, turn.report, turn.error)

    def _told(self, context: Any, report: Report | None, error: PenstockError | None) -> dict[str, Any]:
        from penstock.replay.render import receipt
        from penstock.replay.render_repair import report_text

        done = report.receipts if report is not None else ()
        for it in done:
            self.link(it)
            self.show(receipt(it))
            span = {"from": it.asked.wide_start, "to": it.asked.wide_end}
            add_event(context, datasource(it.pipeline, self.hook.settings.env.name), replay=it.id, **span)
        if report is not None:
            self.show(report_text(report))
        if error is not None:
            raise error
        return {"changed": bool(done), "replays": [it.id for it in done]}

    def watch(self, context: Any) -> Watch:
        from penstock.replay.mend import unfinished

        hook = self.hook
        return self.watch_replay(next(iter(unfinished(hook.pipeline(self.pipeline), hook.services)), None))


def rate(value: Any) -> float | None:
    """Read a form's rate: None where it was left empty."""
    text = given(value)
    try:
        found = None if text is None else float(text)
    except ValueError:
        found = 0.0
    if found is not None and found < 1:
        raise DeclarationError(f"--rate {value} is no number of records a second, at least 1")
    return found


def reason(value: Any, context: Any) -> str:
    """Read a form's reason; where it was left empty the run is one."""
    return given(value) or f"run {context['dag_run'].run_id} of {context['dag_run'].dag_id}"
