"""A seeded generator of events for any declared topic, good ones and every sort of bad ones.

Good events are bytes templates filled in with key, number and time, which is several times as fast as writing JSON anew
for each.  Bad ones are rare and are written one by one (`malformed.py`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from penstock.data.event import GOOD, Event, record_key
from penstock.data.load import DUPLICATE, LATE, MALFORMED, TOO_EARLY, Load, check
from penstock.data.malformed import broken
from penstock.data.murmur2 import partition_of
from penstock.durations import millis
from penstock.pipeline import Field, Topic

#: How many different bodies there are; all else is drawn for each event.
_BODIES = 512
#: One in so many values of a nullable field is null.
_NULLS = 16
#: Events too early for any clock are dated from 2100-01-01T00:00Z on.
TOO_EARLY_MS = 4_102_444_800_000


def generate(topic: Topic, load: Load) -> Iterator[Event]:
    """Return the load's events in sending order; raises DeclarationError (at once) for a load that can't be made.

    `kind` of each says what it is, so counting the kinds is an exact account.  Every good event is on time and every
    malformed or too early one is rejected, whatever the pipeline.  A late one is late only where the watermark has
    come near the clock: a pipeline that reads a backlog at full speed counts some as on time, so its late rows are at
    most these.
    """
    check(topic, load)
    return _events(topic, load)


def _events(topic: Topic, load: Load) -> Iterator[Event]:
    random_ = random.Random(load.seed)
    draw, clock, spread, faults = random_.random, load.clock, load.spread, load.faults
    bound = millis(topic.out_of_orderness)
    disorder = bound // 2 if clock.disorder_s is None else int(clock.disorder_s * 1000)
    late_by = bound + int(clock.late_by_s * 1000)
    bodies, targets = _bodies(topic, load.seed, random_), _targets(topic, load)
    templates, keys, hot = [body.template for body in bodies], len(targets), spread.hot_key
    late, too_early = faults.late, faults.late + faults.too_early
    malformed = too_early + faults.malformed
    any_fault = malformed + faults.duplicate
    kinds = [kind for kind in MALFORMED if kind != "largest message"]
    largest = load.count // 2 if faults.malformed else -1
    turn = 0
    last: Event | None = None
    for number in range(load.count):
        kind, now, fault = GOOD, int(clock.start_ms + number * clock.step_ms), draw()
        time = now - int(draw() * disorder)
        if fault < any_fault or number == largest:
            if number == largest:
                kind = "largest message"
            elif fault < late:
                kind, time = LATE, now - late_by
            elif fault < too_early:
                kind, time = TOO_EARLY, TOO_EARLY_MS + number
            elif fault < malformed:
                kind, turn = kinds[turn % len(kinds)], turn + 1
            elif last is not None:
                yield last._replace(kind=DUPLICATE, report_time_ms=now)
                continue
        index = 0 if hot and draw() < hot else int(draw() * keys)
        key, text, partitions = targets[index]
        body = int(draw() * _BODIES)
        partition = partitions[number % len(partitions)]
        if kind in MALFORMED:
            row = bodies[body].row(topic, text, load.seed, number, time)
            yield Event(key, broken(kind, topic, row, key, random_), now, kind, partition)
        else:
            value = templates[body] % {b"k": text, b"n": number, b"t": time}
            event = Event(key, value, now, kind, partition)
            yield event
            if kind is GOOD:
                last = event


def _targets(topic: Topic, load: Load) -> list[tuple[bytes | None, bytes, list[int]]]:
    """Return each key as sent, as JSON text, and the partitions it goes to: one, or all in turn where there is no key.

    Keys of idle partitions move to the others, so a key stays in one partition.
    """
    busy = [partition for partition in range(topic.partitions) if partition not in set(load.spread.idle)]
    if topic.key is None:
        return [(None, b"", busy)]
    kind = topic.field(topic.key).type
    found: list[tuple[bytes | None, bytes, list[int]]] = []
    for number in range(load.spread.keys):
        value = _key(kind, topic.key, number)
        text = json.dumps(value).encode()
        key = record_key(value)
        partition = partition_of(key, topic.partitions)
        found.append((key, text, [partition if partition in busy else busy[partition % len(busy)]]))
    return found


def _key(kind: str, name: str, number: int) -> Any:
    match kind:
        case "string":
            return f"{name}-{number}"
        case "boolean":
            return number % 2 == 0
        case "double":
            return number + 0.5
        case _:
            return number


@dataclass(frozen=True)
class _Body:
    """One set of values for the fields that are not drawn for each event, and their template."""

    values: dict[str, Any]
    template: bytes

    def row(self, topic: Topic, key: bytes, seed: int, number: int, time: int) -> dict[str, Any]:
        """Return the values that the template would be filled in with."""
        row = dict(self.values)
        for item in topic.fields:
            if item.name == topic.event_time:
                row[item.name] = time
            elif item.name == topic.key:
                row[item.name] = json.loads(key)
            elif _identifies(item):
                row[item.name] = f"{seed}-{number}"
        return row


def _identifies(item: Field) -> bool:
    """Tell whether a field is a string that names the event: `id`, or `<something>_id`."""
    return item.type == "string" and (item.name == "id" or item.name.endswith("_id"))


def _bodies(topic: Topic, seed: int, random_: random.Random) -> list[_Body]:
    bodies = []
    for _ in range(_BODIES):
        values, parts = {}, []
        for item in topic.fields:
            name = json.dumps(item.name)
            if item.name == topic.event_time:
                parts.append(f"{name}:%(t)d")
            elif item.name == topic.key:
                parts.append(f"{name}:%(k)b")
            elif _identifies(item):
                parts.append(f'{name}:"{seed}-%(n)d"')
            else:
                values[item.name] = _value(item, random_)
                parts.append(f"{name}:{json.dumps(values[item.name])}".replace("%", "%%"))
        bodies.append(_Body({item.name: values.get(item.name) for item in topic.fields}, _object(parts)))
    return bodies


def _object(parts: list[str]) -> bytes:
    return ("{" + ",".join(parts) + "}").encode()


def _value(item: Field, random_: random.Random) -> Any:
    if item.nullable and random_.randrange(_NULLS) == 0:
        return None
    match item.type:
        case "string":
            return f"{item.name}-{random_.randrange(20)}"
        case "boolean":
            return random_.random() < 0.5
        case "double":
            # Quarters are exact in binary, so that a sum is the same in whatever order it is made.
            return random_.randrange(4000) / 4
        case "timestamp_ms":
            return 1_700_000_000_000 + random_.randrange(1_000_000_000)
        case _:
            return random_.randrange(1000)
