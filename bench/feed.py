"""Events at a steady pace, each with the moment at which it was produced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from penstock.data.event import Event
from penstock.data.produce import produce
from penstock.pipeline import Topic
from penstock.settings import KafkaSettings

#: Of the number of the event and the wall clock (epoch ms), the event.
Make = Callable[[int, int], Event]


class Feed:
    """Produces `rate` events/s in a thread, between `with` and its end.

    `sent[n]` is when event n was handed to the producer, by `time.perf_counter`; `dated[n]` its wall clock in epoch ms.
    An event is made when it is due, so a producer that falls behind is behind in what it says, too.
    """

    def __init__(self, settings: KafkaSettings, topic: Topic, make: Make, rate: float) -> None:
        self._settings, self._topic, self._make, self._rate = settings, topic, make, rate
        self.sent: list[float] = []
        self.dated: list[int] = []
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"feed {topic.name}", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End after the event under way, and wait until all are acknowledged; raise what the producer raised."""
        self._stop.set()
        self._thread.join()
        self.check()

    def check(self) -> None:
        """Raise what the producer raised, if it has."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            produce(self._settings, self._topic, self._events())
        except BaseException as error:
            self._failure = error

    def _events(self) -> Iterator[Event]:
        began = time.perf_counter()
        number = 0
        while not self._stop.is_set():
            if (left := began + number / self._rate - time.perf_counter()) > 0:
                time.sleep(left)
            now = time.time_ns() // 1_000_000
            event = self._make(number, now)
            self.dated.append(now)
            self.sent.append(time.perf_counter())
            yield event
            number += 1
