"""Ctrl-C during the demo's stream ends the demo, and its producer."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from penstock import demo, watch
from penstock.data import flights, produce
from penstock.services import kafka
from penstock.settings import Settings, load_settings
from tests.unit.memory import windowed

SHOWN = windowed(name=demo.SHOWN)


class Stream:
    """Endless events, a producer that reads them, and no service."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.ended = threading.Event(), threading.Event()
        self.most: int | None = None
        monkeypatch.setattr(flights, "flights", self.events)
        monkeypatch.setattr(produce, "produce", self.produce)
        monkeypatch.setattr(produce, "undelivered", lambda events, _: events)
        monkeypatch.setattr(kafka.Kafka, "end_offsets", lambda *_, **__: {})

    def events(self) -> Iterator[int]:
        number = 0
        while number != self.most:
            number += 1
            yield number

    def produce(self, _kafka: Any, _topic: Any, events: Iterator[int], **_: Any) -> None:
        for _ in events:
            self.begun.set()
        self.ended.set()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "penstock.toml").touch()
    return load_settings(tmp_path, environ={})


def stream(settings: Settings) -> None:
    demo._stream(settings, [SHOWN], 1.0, Console(file=io.StringIO()))


def test_ctrl_c_ends_the_stream_and_its_producer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Stream(monkeypatch)
    # `watch` returns when Ctrl-C is pressed, as it does when all is streamed.
    monkeypatch.setattr(watch, "watch", lambda *_, **__: made.begun.wait(5))
    with pytest.raises(KeyboardInterrupt):
        stream(settings)
    assert made.ended.wait(5)


def test_a_stream_that_is_through_is_no_interrupt(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Stream(monkeypatch)
    made.most = 3

    def watched(*_: Any, until: Any, **__: Any) -> None:
        while not until():
            made.ended.wait(0.01)

    monkeypatch.setattr(watch, "watch", watched)
    stream(settings)
    assert made.ended.is_set()


@pytest.mark.parametrize("found", [None, "/usr/bin/penstock"])
def test_the_last_lines_say_how_to_get_penstock_on_path(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    monkeypatch.chdir(settings.root)
    monkeypatch.setattr("sys.executable", str(settings.root / ".venv" / "bin" / "python"))
    monkeypatch.setattr("shutil.which", lambda _: found)
    out = io.StringIO()
    demo._next(settings, Console(file=out, width=150))
    assert ("\n  source .venv/bin/activate\n" in out.getvalue()) is (found is None)


def test_an_interrupted_demo_leaves_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["demo"])
    monkeypatch.setattr(demo, "load_settings", lambda: None)
    monkeypatch.setattr(demo, "run", interrupted)
    with pytest.raises(SystemExit) as caught:
        demo.main()
    assert caught.value.code == 130
