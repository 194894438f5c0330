"""The records that dead letters were made of, where the log still has them: their keys and headers."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.deadletters.letters import Place
from penstock.services.kafka import Record
from penstock.services.protocols import KafkaService

#: Records between two that are wanted up to which all are read: to seek takes as long as to read these.
GAP = 20_000


def originals(kafka: KafkaService, topic: str, places: Iterable[Place]) -> dict[Place, Record]:
    """Return the records at these places, without those that retention has removed."""
    first, end = kafka.start_offsets(topic), kafka.end_offsets(topic, committed=True)
    wanted = {place for place in places if first.get(place[0], 0) <= place[1] < end.get(place[0], 0)}
    found: dict[Place, Record] = {}
    for low, high in _stretches(wanted):
        for batch in kafka.read(topic, low, high):
            found |= {(it.partition, it.offset): it for it in batch if (it.partition, it.offset) in wanted}
    return found


def _stretches(places: Iterable[Place]) -> list[tuple[dict[int, int], dict[int, int]]]:
    """Return what to read: for each read and partition, from where to where."""
    runs: dict[int, list[tuple[int, int]]] = {}
    for partition, offset in sorted(places):
        stretch = runs.setdefault(partition, [])
        if stretch and offset - stretch[-1][1] < GAP:
            stretch[-1] = (stretch[-1][0], offset + 1)
        else:
            stretch.append((offset, offset + 1))
    found = []
    for number in range(max(map(len, runs.values()), default=0)):
        turn = {partition: stretch[number] for partition, stretch in runs.items() if number < len(stretch)}
        found.append(({p: low for p, (low, _) in turn.items()}, {p: high for p, (_, high) in turn.items()}))
    return found
