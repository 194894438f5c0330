"""What is to be sent for a dead letter, or why it is not: its fix, and what pipelines would say of it.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from penstock.compare import utc
from penstock.data.event import record_key
from penstock.data.malformed import largest_value
from penstock.data.murmur2 import partition_of
from penstock.deadletters.fix import Fix, FixError
from penstock.deadletters.letters import Letter, Place
from penstock.deadletters.markers import marks
from penstock.durations import format_duration, millis, parse_duration
from penstock.json_or_error import fields, rejection
from penstock.pipeline import Topic
from penstock.services.kafka import Record
from penstock.services.kafka_write import Outgoing

#: What becomes of a letter.
SENT, LEFT, UNFIT, FAILED = "sent", "left dead", "unfit", "fix failed"


@dataclass(frozen=True)
class Outcome:
    """What becomes of one letter; `detail` says why it is not sent.

    `value` is what is sent, or would be; `time` its event time (epoch ms), `to` where it is now.
    """

    letter: Letter
    status: str
    detail: str = ""
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()
    time: int | None = None
    to: Place | None = None


def mend(
    letter: Letter, original: Record | None, topic: Topic, fix: Fix | None, *, who: tuple[str, str], now: float
) -> Outcome:
    """Fix a letter and check it: what would be sent, or why nothing is.

    `original` is its record if the log still has it, `now` is epoch ms, `who` says by whom it is sent and when.
    What would be a dead letter again, dated too early for any pipeline, or too large for the topic, is unfit.
    """
    if original is not None and original.timestamp != letter.timestamp:
        original = None  # another record's: the topic was deleted and made anew
    letter = replace(letter, key=original.key if original else None)
    try:
        value = letter.value if fix is None else fix(letter)
    except FixError as error:
        return Outcome(letter, FAILED, str(error))
    if value is None and fix is not None:
        return Outcome(letter, LEFT)
    if reason := rejection(topic, value):
        return Outcome(letter, UNFIT, reason, value)
    assert value is not None
    found = fields(topic, value)
    if original is None and topic.key is not None and found[topic.key] is not None:
        letter = replace(letter, key=record_key(found[topic.key]))
    made = Outcome(letter, SENT, "", value, _headers(letter, original, who), found[topic.event_time])
    reason = _too_early(topic, made.time, now) or _too_large(topic, made)
    return replace(made, status=UNFIT, detail=reason) if reason else made


def outgoing(outcome: Outcome, partitions: int) -> Outgoing:
    """Return the record to send: to where all others of its key are, or without a key to where the broken one was."""
    letter = outcome.letter
    partition = letter.partition if letter.key is None else partition_of(letter.key, partitions)
    return Outgoing(letter.topic, partition, letter.key, outcome.value, outcome.headers)


def _headers(letter: Letter, original: Record | None, who: tuple[str, str]) -> list[tuple[str, bytes]]:
    """Return the original's headers, if it is still there, and the marks; of marks from before, none."""
    own = marks(letter, *who)
    names = {name for name, _ in own}
    return [*((name, value) for name, value in (original.headers if original else ()) if name not in names), *own]


def _too_early(topic: Topic, time: int | None, now: float) -> str | None:
    bound = parse_duration(topic.too_early)
    assert time is not None and bound is not None
    if time <= now + millis(bound):
        return None
    ahead = f"more than {format_duration(bound)} ahead of now, so no pipeline counts it"
    return f"too early: field '{topic.event_time}' is {utc(time)}, {ahead}"


def _too_large(topic: Topic, outcome: Outcome) -> str | None:
    room = max(0, largest_value(topic.max_message_bytes, outcome.letter.key, outcome.headers))
    size = len(outcome.value or b"")
    if size <= room:
        return None
    return f"too large: {size:,} bytes; with key and headers, {topic.name} takes {room:,}"
