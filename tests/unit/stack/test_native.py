"""Up, down, status and logs, with the real process manager; the parts are shell scripts that sleep."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from penstock.errors import DeclarationError, UnavailableError, WaitTimeoutError
from penstock.settings import Settings
from penstock.stack import down, logs, native, processes, status, up
from penstock.stack.layout import layout
from penstock.stack.manager import Manager
from penstock.wait import Pending

from .conftest import Notes


def test_up_status_down(settings: Settings, healthy: dict[str, str | Pending], notes: Notes) -> None:
    found = up(settings, notes)
    assert all(part.healthy and part.state in ("starting", "running") and part.pid for part in found)
    assert len({part.pid for part in found}) == 8
    assert found[0].rss > 0
    assert (layout(settings).kafka_data / "meta.properties").is_file()

    again = up(settings, notes)
    assert notes.texts[-1] == "already up: all 8 parts are healthy"
    assert [part.pid for part in again] == [part.pid for part in found]

    down(settings, notes)
    assert notes.texts[-1] == "stopped"
    assert processes.own(settings.stack.state) == []
    assert {(part.state, part.pid) for part in status(settings)} == {("stopped", None)}
    down(settings, notes)
    assert notes.texts[-1] == "nothing runs"


def test_what_needs_zookeeper_waits_for_it(settings: Settings, healthy: dict[str, str | Pending]) -> None:
    healthy["zookeeper"] = Pending("does not serve requests yet")
    with pytest.raises(WaitTimeoutError, match=r"1 of 8 parts healthy.*zookeeper \(does not serve requests yet\)"):
        up(settings, timeout=1)
    running = {part.name for part in status(settings) if part.pid}
    assert running == {"zookeeper", "kafka"}

    healthy["zookeeper"] = "mode: standalone"
    assert all(part.healthy for part in up(settings))  # a second one goes on where the first ended


def test_a_part_that_dies_at_once_is_told_with_its_last_words(
    settings: Settings, healthy: dict[str, str | Pending]
) -> None:
    settings.stack.state.mkdir()
    (settings.stack.state / "fail-kafka").touch()
    healthy["kafka"] = Pending("connection refused")
    with pytest.raises(UnavailableError) as caught:
        up(settings)
    log = layout(settings).log_file("kafka")
    assert f"kafka ended before it was healthy; the last lines of {log}:" in caught.value.message
    assert "kafka: something is wrong" in caught.value.message
    assert "penstock logs kafka" in str(caught.value)


def test_a_killed_part_comes_back_and_is_counted(settings: Settings, healthy: dict[str, str | Pending]) -> None:
    before = up(settings)[0]
    time.sleep(3.2)  # a part counts as started after three seconds
    assert before.pid
    os.kill(before.pid, signal.SIGKILL)
    deadline = time.monotonic() + 15
    while (now := status(settings)[0]).pid in (None, before.pid):
        assert time.monotonic() < deadline, now
        time.sleep(0.1)
    assert (now.restarts, status(settings)[1].restarts) == (1, 0)


def test_interrupted_up_is_cleared_by_down(settings: Settings, healthy: dict[str, str | Pending]) -> None:
    healthy["zookeeper"] = Pending("starts")

    class Interrupted(Notes):
        def update(self, text: str) -> None:
            if "zookeeper (starts)" in text:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        up(settings, Interrupted())
    assert processes.own(settings.stack.state)
    down(settings)
    assert processes.own(settings.stack.state) == []


def kill_manager(settings: Settings) -> None:
    daemon = psutil.Process(Manager(layout(settings)).pid())
    daemon.kill()
    psutil.wait_procs([daemon], timeout=10)


def test_parts_without_their_process_manager_are_ended(
    settings: Settings, healthy: dict[str, str | Pending], notes: Notes
) -> None:
    up(settings)
    kill_manager(settings)
    left = processes.own(settings.stack.state)
    assert len(left) == 8
    lone = status(settings)
    assert {part.pid for part in lone} == {process.pid for process in left}
    assert {(part.state, part.healthy) for part in lone} == {("unmanaged", False)}
    found = up(settings, notes)
    assert "ending 8 processes left without their process manager" in notes.texts
    assert not {part.pid for part in found} & {process.pid for process in left}

    kill_manager(settings)
    down(settings, notes)
    assert notes.texts[-1] == "ended 8 left processes"
    assert processes.own(settings.stack.state) == []


def test_two_ups_at_once_take_turns(settings: Settings, healthy: dict[str, str | Pending]) -> None:
    notes = Notes()
    with native._locked(settings, "up", notes):
        second = threading.Thread(target=up, args=(settings, notes))
        second.start()
        deadline = time.monotonic() + 10
        while not any(f"`penstock up` (pid {os.getpid()}) is at work" in text for text in notes.texts):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert processes.own(settings.stack.state) == []
    second.join(30)
    assert all(part.healthy for part in status(settings))


def test_a_lock_that_is_never_released_is_told(settings: Settings) -> None:
    notes = Notes()
    with (
        native._locked(settings, "down", notes),
        pytest.raises(WaitTimeoutError, match=r"`penstock down` \(pid \d+\) is at work on it"),
        native._locked(settings, "up", notes, timeout=0.3),
    ):
        pass


def test_two_stacks_side_by_side(make_settings: Callable[..., Settings], healthy: dict[str, str | Pending]) -> None:
    one, two = make_settings("one", 24000), make_settings("two", 24100)
    pids = {part.pid for part in up(one)} | {part.pid for part in up(two)}
    assert len(pids) == 16
    down(one)
    assert all(part.healthy for part in status(two))
    assert len(processes.own(two.stack.state)) == 9  # the parts and their process manager


def test_other_settings_are_not_taken_up_by_a_running_stack(
    settings: Settings, healthy: dict[str, str | Pending]
) -> None:
    up(settings)
    moved = settings.stack.model_copy(update={"port_base": settings.stack.port_base + 100})
    with pytest.raises(DeclarationError, match=r"runs with other settings: .*\n.*`penstock down`, then `penstock up`"):
        up(settings.model_copy(update={"stack": moved}))


def test_a_state_directory_with_a_long_name(
    make_settings: Callable[..., Settings], healthy: dict[str, str | Pending]
) -> None:
    settings = make_settings("state-" * 20)
    assert layout(settings).socket.parent != layout(settings).run
    assert all(part.healthy for part in up(settings))
    down(settings)
    assert processes.own(settings.stack.state) == []


def test_logs_end_and_follow(settings: Settings, healthy: dict[str, str | Pending]) -> None:
    up(settings)
    assert list(logs(settings, "kafka")) == ["kafka begins"]
    assert "zookeeper             | zookeeper begins" in list(logs(settings))
    with pytest.raises(DeclarationError, match="no part 'kaffka'"):
        list(logs(settings, "kaffka"))

    file = layout(settings).log_file("kafka")
    lines = logs(settings, "kafka", lines=1, follow=True)
    assert next(lines) == "kafka begins"
    with file.open("a") as stream:
        stream.write("one\ntwo\nthr")
    assert [next(lines), next(lines)] == ["one", "two"]
    file.rename(file.with_suffix(".log.1"))
    file.write_text("after the rotation\n")
    assert [next(lines), next(lines)] == ["thr", "after the rotation"]


def test_own_processes_are_told_by_their_mark(settings: Settings, healthy: dict[str, str | Pending]) -> None:
    """Not by a name: another stack's processes, and this one, are spared."""
    found = up(settings)
    own = {process.pid for process in processes.own(settings.stack.state)}
    assert {part.pid for part in found} < own
    assert psutil.Process().pid not in own
    assert processes.own(settings.root) == []
