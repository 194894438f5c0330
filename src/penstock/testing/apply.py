"""Pipelines for one test: applied when asked for, and taken away with all their data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from penstock.apply import apply
from penstock.lifecycle import remove
from penstock.load import named
from penstock.pipeline import Pipeline
from penstock.services.protocols import Services, connect
from penstock.settings import Settings
from penstock.testing.deployed import Deployed
from penstock.topics import source_topic


@contextmanager
def applied(settings: Settings) -> Iterator[Callable[[str], Deployed]]:
    """Yield a function that applies a declared pipeline; those that it has applied are removed at the end."""
    services, there = connect(settings), list[Pipeline]()

    def deploy(name: str) -> Deployed:
        (wanted,) = named(settings.jobs, [name])
        if wanted not in there:
            if not any(it.source.name == wanted.source.name for it in there):
                _new_source(wanted, services, settings)
            there.append(wanted)
            apply(there, services, settings)
        return Deployed(wanted, settings, services)

    try:
        yield deploy
    finally:
        for one in there:
            remove(one.name, services, settings, delete_topics=True, drop_datasource=True)
        for topic in {one.source.name for one in there}:
            services.kafka.delete_topic(topic)


def _new_source(pipeline: Pipeline, services: Services, settings: Settings) -> None:
    """Make the source topic, also where the declaration leaves that to others."""
    topic = pipeline.source
    if topic.name in services.kafka.topics([topic.name]):
        services.kafka.delete_topic(topic.name)
    services.kafka.create_topic(source_topic(topic, settings.env))
