"""Which dead letters were sent back: one marker each, in the compacted topic `penstock.redrives`.

Key `<env>/<topic>/<partition>/<offset>` of the broken record, value JSON.  A record that is broken is so for every
pipeline of its topic, so they share the marker.  It is written in the same transaction as the record that it tells of.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass

from penstock.deadletters.letters import Letter, Place
from penstock.errors import PenstockError, RefusedError
from penstock.newer import known
from penstock.pipeline import Topic
from penstock.services.kafka_write import Outgoing
from penstock.services.protocols import KafkaService
from penstock.settings import Environment
from penstock.settle import OPEN_HINT, transactions_ended
from penstock.topics import TopicSpec
from penstock.wait import Progress, until

TOPIC = "penstock.redrives"

#: Headers of a record that was sent back: `<topic>/<partition>/<offset>` and reason of the broken one, by whom, when.
FROM, REASON, BY, AT = (f"penstock-redriven-{name}" for name in ("from", "reason", "by", "at"))


@dataclass(frozen=True)
class Redriven:
    """That a dead letter was sent back: where it is now, by whom, when (UTC), by which fix and for which pipeline.

    `timestamp` (epoch ms) is the broken record's: in a topic that was made anew, the same place holds another record.
    """

    partition: int
    offset: int
    timestamp: int
    by: str
    at: str
    pipeline: str = ""
    fix: str = ""

    @property
    def place(self) -> Place:
        return self.partition, self.offset


#: By the place of the broken record.
Markers = dict[Place, Redriven]


def transactional_id(env: Environment, topic: Topic) -> str:
    """Return the id under which dead letters go back to the topic: one for all pipelines, so one redrive at a time."""
    return f"penstock-{env.name}-redrive-{topic.name}"


def marks(letter: Letter, by: str, at: str) -> list[tuple[str, bytes]]:
    """Return the headers that mark a letter that is sent back."""
    origin = f"{letter.topic}/{letter.partition}/{letter.offset}"
    return [(FROM, origin.encode()), (REASON, letter.reason.encode()), (BY, by.encode()), (AT, at.encode())]


def marker(env: Environment, letter: Letter, redriven: Redriven) -> Outgoing:
    """Return the record to be written with the letter that is sent back."""
    key = f"{env.name}/{letter.topic}/{letter.partition}/{letter.offset}"
    return Outgoing(TOPIC, 0, key.encode(), json.dumps(asdict(redriven), sort_keys=True).encode())


def create_topic(kafka: KafkaService, env: Environment) -> None:
    """Create the topic of the markers where there is none."""
    if TOPIC not in kafka.topics([TOPIC]):
        with suppress(RefusedError):  # another redrive has made it meanwhile
            kafka.create_topic(TopicSpec(TOPIC, 1, env.kafka.replication, {"cleanup.policy": "compact"}, "redrives"))


def read_markers(
    kafka: KafkaService,
    env: Environment,
    topic: Topic,
    *,
    timeout: float | None = None,
    progress: Progress | None = None,
) -> Markers:
    """Return the markers of the topic; none where nothing was ever sent back.

    With `timeout` (seconds) wait for all that was written by now: behind an open transaction, that of another topic's
    redrive say, there may be markers of this one.  Raises WaitTimeoutError.
    """
    if TOPIC not in kafka.topics([TOPIC]):
        return {}
    if timeout is not None:
        ended = transactions_ended(kafka, TOPIC)
        until(f"topic {TOPIC}", ended, timeout=timeout, interval=0.05, hint=OPEN_HINT, progress=progress)
    prefix = f"{env.name}/{topic.name}/"
    found: Markers = {}
    for batch in kafka.read(TOPIC, kafka.start_offsets(TOPIC), kafka.end_offsets(TOPIC, committed=True)):
        for record in batch:
            key = (record.key or b"").decode()
            if key.startswith(prefix) and record.value is not None:
                partition, offset = key.removeprefix(prefix).split("/")
                found[int(partition), int(offset)] = _read(record.value)
    return found


def _read(value: bytes) -> Redriven:
    try:
        return Redriven(**known(Redriven, json.loads(value)))
    except (ValueError, TypeError, AttributeError) as error:
        raise PenstockError(f"{TOPIC} holds a marker that can't be read: {value[:100]!r}: {error}") from None


def redriven(letter: Letter, markers: Markers) -> Redriven | None:
    """Return that and how a letter was sent back, None where it was not."""
    found = markers.get(letter.place)
    return found if found is not None and found.timestamp == letter.timestamp else None
