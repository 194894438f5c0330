"""Topics."""

from __future__ import annotations

from typing import Any

from penstock.airflow.assets import add_event, topic
from penstock.airflow.base import PenstockOperator
from penstock.topics import topic_specs


class KafkaTopicsOperator(PenstockOperator):
    """Make a pipeline's topics what is declared: created, grown, set.  What would lose records is refused.

    Topics that are there already are told and left alone.  A change is an event of each topic's asset.
    """

    def act(self, context: Any, timeout: float) -> dict[str, Any]:
        from penstock.part import apply_part

        hook = self.hook
        pipelines = hook.pipelines()
        pipeline = hook.pipeline(self.pipeline)
        outcome = apply_part(
            self.pipeline, "topic", pipelines, hook.services, hook.settings, progress=self.progress, timeout=timeout
        )
        if outcome.changed:
            for spec in topic_specs(pipeline, hook.settings.env):
                add_event(context, topic(spec.name, hook.settings.env.name), role=spec.role)
        return self.tell(outcome)
