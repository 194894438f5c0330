"""The change of a pipeline's version."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from penstock.airflow import links
from penstock.airflow.assets import add_event, datasource
from penstock.airflow.operators.flink import given, names
from penstock.airflow.operators.replay import UNCHANGED, ReplayOperator, rate, reason
from penstock.airflow.triggers import Watch
from penstock.durations import millis
from penstock.errors import DeclarationError
from penstock.replay.steps import Publish


class FlinkUpgradeOperator(ReplayOperator):
    """Go over from the version that runs to the one that is declared.

    Without `replay_from` in place, from a savepoint; with it (UTC) the figures from there on are computed anew, beside
    the old job, and `allow` are flags as of `penstock upgrade --allow`.  Run again it goes on with what it began, or
    with an upgrade that the command line began.
    """

    template_fields: Sequence[str] = (*ReplayOperator.template_fields, "replay_from", "rate", "reason", "allow")

    def __init__(
        self,
        *,
        replay_from: str | None = None,
        rate: float | str | None = None,
        reason: str = "",
        allow: Sequence[str] | str = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.replay_from = replay_from
        self.rate = rate
        self.reason = reason
        self.allow = allow

    def id(self, context: Any) -> str:
        return given(self.replay_id) or f"upgrade-{super().id(context)}"[:80]

    @property
    def place(self) -> float:
        from penstock.upgrade import under_way

        hook = self.hook
        replay = under_way(self.pipeline, hook.services)
        # In place it is a minute, in which a failure of the new job is answered at once: by going back to the old one.
        in_place = replay is None and given(self.replay_from) is None
        # Published, it is checked: what is begun anew would never be an alarm.
        if in_place or (replay is not None and Publish.kind in replay.done):
            return math.inf
        # The new job's watermark may have to be seen standing still for so long.
        return super().place + millis(hook.pipeline(self.pipeline).source.idle_after) / 1000

    def watch(self, context: Any) -> Watch:
        from penstock.upgrade import under_way

        return self.watch_replay(under_way(self.pipeline, self.hook.services))

    def act(self, context: Any, timeout: float) -> dict[str, Any]:
        from penstock.lifecycle import Outcome
        from penstock.plan import parse_allow
        from penstock.replay import render
        from penstock.segments import moment
        from penstock.upgrade import FLAGS, Request, begin, upgrade

        hook, since = self.hook, given(self.replay_from)
        pipeline = hook.pipeline(self.pipeline)
        request = None
        if since is not None:
            more: dict[str, Any] = {"rate": rate(self.rate), "reason": reason(self.reason, context)}
            more["allow"] = parse_allow(names(self.allow), FLAGS)
            request = Request(moment("--replay-from", since), **more)
        begun = begin(pipeline, request, hook.services, hook.settings, id=self.id(context))
        if begun is not None and begun.replay.status == "abandoned":
            raise DeclarationError(f"upgrade {begun.replay.id} was given up", hint="run the DAG anew")
        if begun is not None and begun.plan is not None:
            self.show(render.plan_text(begun.plan))
        done = upgrade(
            pipeline,
            begun,
            hook.services,
            hook.settings,
            progress=self.progress,
            timeout=min(timeout, UNCHANGED),
        )
        record = hook.services.registry.read()[pipeline.name]
        self.flink_url = links.flink_job(hook.settings.env, record.job_id)
        if isinstance(done, Outcome):
            return self.tell(done)
        self.show(render.receipt(done))
        span = {"from": done.asked.wide_start, "to": done.asked.wide_end}
        add_event(context, datasource(done.pipeline, hook.settings.env.name), replay=done.id, **span)
        return {"changed": True, "replay": done.id, "lines": [render.verdict(done)]}
