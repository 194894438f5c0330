"""Send dead letters back to the topic they came from: mended by a function, checked, marked, and each once.

take over   as the one writer for the topic: another redrive of it is fenced, and what a dead one left open is aborted
read        the markers, after that: what they don't tell of was not sent, and is not being sent
mend        what would be a dead letter again is not sent, and is told with the reason
write       letters and their markers, a chunk in one transaction: killed at any point and run again sends each once
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from penstock.deadletters import markers
from penstock.deadletters.fix import Fix
from penstock.deadletters.letters import Letter, Place, read_letters, unknown, written
from penstock.deadletters.markers import Markers, Redriven
from penstock.deadletters.mend import FAILED, SENT, UNFIT, Outcome, mend, outgoing
from penstock.deadletters.originals import originals
from penstock.errors import DeclarationError, RefusedError
from penstock.pipeline import Pipeline
from penstock.services.kafka_write import TRANSACTION_TIMEOUT, Outgoing, Writer
from penstock.services.protocols import KafkaService
from penstock.services.registry import signature
from penstock.settings import Settings
from penstock.wait import Progress, Silent

#: Letters, and bytes of them, that are sent in one transaction.
CHUNK, CHUNK_BYTES = 500, 16 * 1024 * 1024

#: What `--allow` may allow, and what it costs.
FLAGS = {"external": "writes to a topic that belongs to others: all of its readers get the records"}


@dataclass(frozen=True)
class Request:
    """Which dead letters are to be sent back, and how: all that were not yet, of these reasons, at these places."""

    fix: Fix | None = None
    reasons: Collection[str] = ()
    places: Collection[Place] = ()
    limit: int | None = None
    dry_run: bool = False
    allow: Collection[str] = ()


@dataclass(frozen=True)
class Redrive:
    """A redrive as it ended.  `before` are letters that were asked for and had been sent back earlier.

    Only a dry run, which writes nothing, keeps the values.
    """

    pipeline: str
    topic: str
    dry_run: bool
    outcomes: tuple[Outcome, ...]
    before: tuple[tuple[Letter, Redriven], ...]

    @property
    def counts(self) -> Counter[str]:
        return Counter(outcome.status for outcome in self.outcomes)

    @property
    def held_back(self) -> int:
        """Letters that should have been sent and could not be."""
        return self.counts[UNFIT] + self.counts[FAILED]

    def told(self) -> list[tuple[str, str, int, str]]:
        """Group what was not sent: (status, why, how many, an example), the most frequent first.

        Reasons that differ in a number only, such as where the JSON breaks, are one; why is the example's.
        """
        groups: dict[tuple[str, str], list[Outcome]] = {}
        for it in self.outcomes:
            if it.status != SENT:
                where, colon, what = it.detail.partition(": ")
                groups.setdefault((it.status, where + colon + re.sub(r"\d+", "0", what)), []).append(it)
        found = [(its[0].status, its[0].detail, len(its), written(its[0].letter.place)) for its in groups.values()]
        return sorted(found, key=lambda item: -item[2])


def redrive(
    pipeline: Pipeline,
    request: Request,
    kafka: KafkaService,
    settings: Settings,
    progress: Progress | None = None,
    *,
    timeout: float = TRANSACTION_TIMEOUT + 30,
) -> Redrive:
    """Send back what is asked for; `timeout` is the seconds to wait for a dead redrive's transaction to end.

    Raises RefusedError for a topic that belongs to others, and where another redrive takes over; DeclarationError for
    places where there is no letter; UnavailableError.
    """
    topic, env, show = pipeline.source, settings.env, progress or Silent()
    if topic.external and "external" not in request.allow:
        hint = f"--allow external: {FLAGS['external']}"
        raise RefusedError(f"{topic.name} is external: it belongs to others", hint=hint)
    if topic.name not in kafka.topics([topic.name]):
        raise DeclarationError(f"there is no topic {topic.name}", hint="`penstock apply` creates topics")
    if request.places:
        absent = set(request.places) - {letter.place for letter in read_letters(pipeline, kafka)}
        if absent:
            raise unknown(pipeline, absent)
    work = _Work(pipeline, request, kafka, settings, show)
    if request.dry_run:
        return work.run(markers.read_markers(kafka, env, topic), None)
    markers.create_topic(kafka, env)
    show.update(f"taking over as the one that sends back to {topic.name}")
    name = markers.transactional_id(env, topic)
    with closing(kafka.transactional(name, max_message_bytes=topic.max_message_bytes)) as writer:
        return work.run(markers.read_markers(kafka, env, topic, timeout=timeout, progress=show), writer)


class _Work:
    """One redrive under way."""

    def __init__(
        self, pipeline: Pipeline, request: Request, kafka: KafkaService, settings: Settings, show: Progress
    ) -> None:
        self._pipeline, self._request, self._kafka, self._env, self._show = pipeline, request, kafka, settings.env, show
        self._partitions = kafka.topics([pipeline.source.name])[pipeline.source.name].partitions
        self._who = signature()
        self._before: list[tuple[Letter, Redriven]] = []

    def run(self, known: Markers, writer: Writer | None) -> Redrive:
        topic, outcomes = self._pipeline.source, list[Outcome]()
        for chunk in _chunks(islice(self._selected(known), self._request.limit)):
            there = originals(self._kafka, topic.name, [letter.place for letter in chunk])
            now = time.time() * 1000
            made = [mend(it, there.get(it.place), topic, self._request.fix, who=self._who, now=now) for it in chunk]
            outcomes += made if writer is None else self._send(made, writer)
            verb = "sent" if writer else "to send"
            self._show.update(f"{len(outcomes):,} dead letters, {sum(it.status == SENT for it in outcomes):,} {verb}")
        return Redrive(self._pipeline.name, topic.name, self._request.dry_run, tuple(outcomes), tuple(self._before))

    def _selected(self, known: Markers) -> Iterator[Letter]:
        """Yield what is asked for and was not sent back yet; note what was."""
        for letter in read_letters(self._pipeline, self._kafka):
            if self._request.reasons and letter.kind not in self._request.reasons:
                continue
            if self._request.places and letter.place not in self._request.places:
                continue
            if done := markers.redriven(letter, known):
                self._before.append((replace(letter, value=None), done))
            else:
                yield letter

    def _send(self, made: list[Outcome], writer: Writer) -> list[Outcome]:
        """Send a chunk's letters with their markers in one transaction, and let go of the values."""
        ready = [outcome for outcome in made if outcome.status == SENT]
        records = [outgoing(outcome, self._partitions) for outcome in ready]

        def then(offsets: Sequence[int]) -> list[Outgoing]:
            fix = self._request.fix.name if self._request.fix else ""
            found = zip(ready, records, offsets, strict=True)
            return [
                markers.marker(
                    self._env,
                    it.letter,
                    Redriven(record.partition, offset, it.letter.timestamp, *self._who, self._pipeline.name, fix),
                )
                for it, record, offset in found
            ]

        offsets = writer.write(records, then) if ready else []
        to = {it.letter.place: (sent.partition, at) for it, sent, at in zip(ready, records, offsets, strict=True)}
        return [
            replace(it, letter=replace(it.letter, value=None), value=None, headers=(), to=to.get(it.letter.place))
            for it in made
        ]


def _chunks(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    chunk: list[Letter] = []
    size = 0
    for letter in letters:
        chunk.append(letter)
        size += len(letter.value or b"")
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
