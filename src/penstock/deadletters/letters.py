"""The dead letters of a pipeline: read from its dead-letter topic, told apart by where they came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from penstock.errors import DeclarationError
from penstock.generation import streams
from penstock.json_or_error import kind_of
from penstock.pipeline import Pipeline
from penstock.rejected import read_rejected
from penstock.services.protocols import KafkaService
from penstock.topics import dlq_topic

#: Where a record was in a topic: partition and offset.
Place = tuple[int, int]


@dataclass(frozen=True)
class Letter:
    """A record that could not be read, as a fix gets it.

    `value` is its bytes; `topic`, `partition`, `offset` and `timestamp` (epoch ms) are those of the record that was
    broken, `reason` says why, as "kind: detail".  `key` is that record's too, None where it had none or is gone.
    """

    value: bytes | None
    key: bytes | None
    reason: str
    topic: str
    partition: int
    offset: int
    timestamp: int

    @property
    def kind(self) -> str:
        return kind_of(self.reason)

    @property
    def place(self) -> Place:
        return self.partition, self.offset


@dataclass(frozen=True)
class Group:
    """The dead letters of one kind: how many, how many of them were redriven, when (epoch ms), and one of them."""

    kind: str
    letters: int
    redriven: int
    first: int
    last: int
    example: Place


def read_letters(pipeline: Pipeline, kafka: KafkaService) -> Iterator[Letter]:
    """Yield the dead letters of the pipeline's source, each once, without their keys.

    Those of earlier generations too: the running one has only the letters of the range that was replayed for it.
    Raises DeclarationError where the pipeline has no dead-letter topic.
    """
    source, generation = pipeline.source.name, pipeline.launch.generation if pipeline.launch else 0
    topics = [dlq_topic(stream) for stream in streams(pipeline.name, generation)]
    there = kafka.topics(topics)
    if (topic := topics[-1]) not in there:
        raise DeclarationError(f"{pipeline.name} is not applied: there is no topic {topic}", hint="`penstock apply`")
    # With the timestamp: in a source that was deleted and made anew the same place is another record's.
    seen: set[tuple[int, int, int]] = set()
    batches = (batch for topic in topics if topic in there for batch in read_rejected(kafka, topic, source))
    for batch in batches:
        for it in batch:
            if (place := it[:3]) not in seen:
                seen.add(place)
                yield Letter(it.record.value, None, it.reason, source, *place)


def grouped(letters: Iterable[Letter], redriven: Callable[[Letter], object]) -> list[Group]:
    """Count the letters by kind, the most frequent first; `redriven` says which were sent back."""
    groups: dict[str, Group] = {}
    for letter in letters:
        at, again = letter.timestamp, int(bool(redriven(letter)))
        found = groups.get(letter.kind) or Group(letter.kind, 0, 0, at, at, letter.place)
        groups[letter.kind] = replace(
            found,
            letters=found.letters + 1,
            redriven=found.redriven + again,
            first=min(found.first, at),
            last=max(found.last, at),
        )
    return sorted(groups.values(), key=lambda group: (-group.letters, group.kind))


def parse_place(text: str) -> Place:
    """Read PARTITION:OFFSET.  Raises DeclarationError."""
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found is None:
        hint = "PARTITION:OFFSET, where the record was in the source topic, such as 2:1041; `penstock dlq list --each`"
        raise DeclarationError(f"{text!r} is no place of a record", hint=hint)
    return int(found[1]), int(found[2])


def written(place: Place) -> str:
    return f"{place[0]}:{place[1]}"


def unknown(pipeline: Pipeline, places: Iterable[Place]) -> DeclarationError:
    """Return the error for places at which the pipeline has no dead letter."""
    listed = ", ".join(map(written, sorted(places)))
    return DeclarationError(
        f"{pipeline.name} has no dead letter of {pipeline.source.name} at {listed}",
        hint=f"`penstock dlq list {pipeline.name} --each` lists them",
    )
