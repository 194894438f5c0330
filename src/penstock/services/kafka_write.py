"""Writing in transactions: what belongs together is there as a whole or not at all, and one writer has the say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from penstock.errors import PenstockError, RefusedError, UnavailableError
from penstock.services.kafka_client import HINT, client_properties, connect, translate
from penstock.settings import KafkaSettings

#: Seconds after which the broker aborts what a dead writer left open; until then, readers of committed records wait.
TRANSACTION_TIMEOUT = 60.0
#: Bytes of a batch; a larger value is sent in one of its own, since a topic's limit is on the batch.
_BATCH_BYTES = 1_000_000

_FENCED = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})


class Outgoing(NamedTuple):
    """A record to write; its timestamp will be the writer's clock."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


#: Makes the rest of a transaction of the offsets that its first records got.
Then = Callable[[Sequence[int]], Sequence[Outgoing]]


class Writer(Protocol):
    """The one writer of a transactional id: whoever takes the id next fences it, and ends what it left open."""

    def write(self, records: Sequence[Outgoing], then: Then) -> list[int]: ...
    def close(self) -> None: ...


class KafkaWriter:
    """The writer at `settings.bootstrap`.  Making it waits until whatever the id had open before is ended.

    Raises UnavailableError where the broker does not answer, RefusedError once another writer has taken the id.
    """

    def __init__(self, settings: KafkaSettings, transactional_id: str, max_message_bytes: int) -> None:
        self._bootstrap, self._id = settings.bootstrap, transactional_id
        milliseconds = int(TRANSACTION_TIMEOUT * 1000)
        properties = {
            **client_properties(settings),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": milliseconds,
            "delivery.timeout.ms": milliseconds,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 5,
            "batch.size": min(_BATCH_BYTES, max_message_bytes),
            "message.max.bytes": max(1_000, max_message_bytes),
            "retry.backoff.max.ms": 500,
        }
        self._producer = connect(Producer, properties)
        self._try(self._producer.init_transactions, "taking over")

    def write(self, records: Sequence[Outgoing], then: Then) -> list[int]:
        """Write the records, and what `then` makes of their offsets, in one transaction; return the offsets."""
        try:
            self._producer.begin_transaction()
            offsets = self._send(records)
            self._send(then(offsets))
            self._try(self._producer.commit_transaction, "committing")
        except (KafkaException, SystemError) as error:
            # A fatal error is raised by the client inside whatever callback runs: as SystemError, caused by it.
            cause = error if isinstance(error, KafkaException) else error.__cause__
            self._abort()
            if not isinstance(cause, KafkaException):
                raise
            raise self._told(cause, "writing") from None
        except BaseException:
            self._abort()
            raise
        return offsets

    def close(self) -> None:
        self._producer.purge()
        self._producer.flush(1)

    def _send(self, records: Sequence[Outgoing]) -> list[int]:
        """Send the records and return their offsets, which they get once they are acknowledged."""
        offsets = [-1] * len(records)
        failures: list[KafkaError] = []

        def told(number: int, error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failures.append(error)
            else:
                offsets[number] = message.offset()  # type: ignore[assignment]

        for number, record in enumerate(records):
            alone = len(record.value or b"") > _BATCH_BYTES // 2
            if alone:
                self._flush()
            self._producer.produce(
                record.topic,
                record.value,
                record.key,
                record.partition,
                headers=list(record.headers),
                on_delivery=partial(told, number),
            )
            if alone:
                self._flush()
        self._flush()
        if failures:
            raise KafkaException(failures[0])
        return offsets

    def _flush(self) -> None:
        if self._producer.flush(TRANSACTION_TIMEOUT + 5):
            raise UnavailableError(f"Kafka at {self._bootstrap} has not taken what was sent", hint=HINT)

    def _try(self, call: Callable[[float], Any], subject: str) -> None:
        """Call until it is done: what may pass is tried again, and never leaves it half done."""
        deadline = time.monotonic() + TRANSACTION_TIMEOUT
        while True:
            try:
                call(TRANSACTION_TIMEOUT)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise self._told(error, subject) from None

    def _abort(self) -> None:
        """Abort what is open; if that fails, the next writer or the broker does it."""
        with suppress(KafkaException):
            self._producer.abort_transaction(10)

    def _told(self, error: KafkaException, subject: str) -> PenstockError:
        if error.args[0].code() in _FENCED:
            return fenced(self._id)
        return translate(error, self._bootstrap, f"{subject} as {self._id}")


def fenced(transactional_id: str) -> RefusedError:
    """Return the error of a writer whose id another one has taken."""
    return RefusedError(
        f"another process has taken over as {transactional_id}: what was not committed yet is taken back",
        hint="let the other one finish, then run this again: what is done is not done twice",
    )
