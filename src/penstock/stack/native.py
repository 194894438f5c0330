"""Up, down and status of the native stack."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psutil

from penstock.errors import DeclarationError, PenstockError, UnavailableError, WaitTimeoutError
from penstock.settings import Settings
from penstock.stack import airflow, cds, java, kafka_storage, processes, render, shipped
from penstock.stack.checks import make_state, refuse_unless_ready
from penstock.stack.layout import Layout, layout
from penstock.stack.logs import tail
from penstock.stack.manager import Info, Manager
from penstock.stack.parts import OPTIONAL, Part, parts, parts_in_use
from penstock.wait import Pending, Progress, Silent, until

#: Seconds.  Ready within 90 on two cores; a machine busy with other work takes longer.
UP_TIMEOUT = 300.0


@dataclass(frozen=True)
class PartStatus:
    """A part as it is now: `uptime` in seconds, `health` in words, `restarts` since `up`.

    `rss` is its memory in bytes: resident, and of its children what they don't share with others.
    """

    name: str
    state: str
    healthy: bool
    health: str
    url: str
    pid: int | None = None
    uptime: float = 0.0
    rss: int = 0
    restarts: int = 0


def up(
    settings: Settings,
    progress: Progress | None = None,
    *,
    without: Iterable[str] = (),
    timeout: float = UP_TIMEOUT,
) -> list[PartStatus]:
    """Start the stack, and return its parts when all are healthy.  One that is up already is left as it is.

    Groups `without` are left out, and stopped where they run; the next `up` that does not name them starts them.

    Raises DeclarationError for all that stands against it, before anything is started; UnavailableError for a part
    that dies, with its last words; WaitTimeoutError.  Interrupted or failed, it leaves what `down` clears and the next
    `up` completes.
    """
    show = progress or Silent()
    omitted = _optional(without)
    make_state(settings)
    with _locked(settings, "up", show) as place:
        manager = Manager(place)
        if manager.alive():
            _refuse_other_settings(settings)
        place.without.write_text(" ".join(omitted), encoding="utf-8")
        if manager.alive():
            _stop_in_waves(manager, [part for part in parts(settings) if part.group in omitted], show)
            current = status(settings)
            if all(part.healthy for part in current):
                show.update(f"already up: all {len(current)} parts are healthy")
                return current
        refuse_unless_ready(settings)
        shipped.fetch_jars(settings, show)
        if not manager.alive():
            _prepare(settings, show)
            manager.start()
        # Airflow's database takes as long as a JVM's start, so it is made beside those.
        with ThreadPoolExecutor(1) as beside:
            wanted = any(part.group == "airflow" for part in parts_in_use(settings))
            prepared = beside.submit(airflow.prepare, settings) if wanted else None
            _start_by_health(settings, manager, show, timeout, prepared)
        return status(settings)


def _optional(without: Iterable[str]) -> tuple[str, ...]:
    wrong = sorted(set(without) - set(OPTIONAL))
    if wrong:
        raise DeclarationError(
            f"--without {wrong[0]}: only {', '.join(OPTIONAL)} can be left out; others need the rest"
        )
    return tuple(sorted(set(without)))


def _prepare(settings: Settings, show: Progress) -> None:
    """Write what the stack is started from; end what an earlier one left behind without its process manager."""
    command = java.find(settings.stack)
    assert command is not None, "refused before"
    place = layout(settings)
    strays = processes.own(settings.stack.state)
    if strays:
        show.update(f"ending {len(strays)} processes left without their process manager")
        _end(strays)
    render.write(settings, render.render(settings, command))
    cds.keep(settings)
    for part in (part for part in parts(settings) if not part.command):
        place.cds_file(part.name).write_text(cds.arguments(settings, part, command), encoding="utf-8")
    if kafka_storage.format_storage(settings, command):
        show.update("Kafka's storage is formatted")


def _refuse_other_settings(settings: Settings) -> None:
    command = java.find(settings.stack)
    differing = render.changed(render.render(settings, command)) if command else []
    if differing:
        raise DeclarationError(
            f"the stack in {settings.stack.state} runs with other settings: {', '.join(map(str, differing[:3]))}"
            + (f" and {len(differing) - 3} more" if len(differing) > 3 else ""),
            hint="`penstock down`, then `penstock up`",
        )


def _start_by_health(
    settings: Settings, manager: Manager, show: Progress, timeout: float, prepared: Future[None] | None
) -> None:
    """Start each part as soon as those it needs are healthy, Airflow's when it is `prepared`, until all are."""
    everything = parts_in_use(settings)
    healthy: set[str] = set()
    pids: dict[str, int] = {}

    def step() -> bool | Pending | Info:
        infos = manager.infos()
        waits = []
        for part in (part for part in everything if part.name not in healthy):
            info = infos[part.name]
            if part.group == "airflow" and prepared and not prepared.done():
                continue
            if part.name not in pids and healthy.issuperset(part.needs):
                manager.start_part(part.name)
                pids[part.name] = 0
            elif part.name not in pids:
                continue
            elif _died(info, pids):
                return info
            elif isinstance(answer := part.health(), Pending):
                waits.append(f"{part.name} ({answer.state})")
            else:
                healthy.add(part.name)
        if prepared and prepared.done():
            prepared.result()
        if len(healthy) == len(everything):
            return True
        awaited = ", ".join(waits) or "the first to start"
        return Pending(f"{len(healthy)} of {len(everything)} parts healthy; waiting for {awaited}")

    hint = f"`penstock logs PART` shows why; all logs are in {layout(settings).logs}"
    outcome = until("the stack", step, timeout=timeout, hint=hint, progress=show)
    if isinstance(outcome, Info):
        manager.stop_part(outcome.name)
        raise _last_words(layout(settings), outcome)


def _died(info: Info, pids: dict[str, int]) -> bool:
    """Say whether a part that was started ended before it was healthy: now, or and came back since the last look."""
    if info.state in ("failing", "failed", "ended"):
        return True
    before, pids[info.name] = pids[info.name], info.pid
    return before not in (0, info.pid)


def _last_words(place: Layout, info: Info) -> UnavailableError:
    file = place.log_file(info.name)
    words = "\n".join(f"    {line}" for line in tail(file, 12)) or "    (it wrote nothing)"
    # The process manager's own words are of use only where there was no process to write a log.
    why = f" ({info.why})" if info.why and not info.why.startswith("Exited too quickly") else ""
    return UnavailableError(
        f"{info.name} ended before it was healthy{why}; the last lines of {file}:\n{words}",
        hint=f"`penstock logs {info.name}` shows more; a second `penstock up` goes on where this one ended",
    )


def down(settings: Settings, progress: Progress | None = None) -> None:
    """Stop the stack and return when no process of it is left.  Data stays; jobs go on from there at the next `up`."""
    show = progress or Silent()
    if not settings.stack.state.exists():
        show.update("nothing runs")
        return
    with _locked(settings, "down", show) as place:
        manager = Manager(place)
        ran = manager.alive()
        if ran:
            _stop_in_waves(manager, parts(settings), show)
            daemon = manager.pid()
            manager.shutdown()
            until(
                "the process manager",
                lambda: not psutil.pid_exists(daemon) or Pending("ends"),
                timeout=30,
                interval=0.05,
            )
        strays = processes.own(place.state)
        _end(strays)
        cds.keep(settings)
        shutil.rmtree(place.tmp, ignore_errors=True)
        show.update("stopped" if ran else f"ended {len(strays)} left processes" if strays else "nothing runs")


def _stop_in_waves(manager: Manager, everything: Iterable[Part], show: Progress) -> None:
    """Stop first what uses the others, all of a wave at once."""
    everything = tuple(everything)
    for wave in sorted({part.stop_wave for part in everything}):
        members = [part for part in everything if part.stop_wave == wave]
        for part in members:
            manager.stop_part(part.name)

        def stopped(members: list[Part] = members) -> bool | Pending:
            infos = manager.infos()
            left = [part.name for part in members if infos[part.name].state in ("running", "starting", "stopping")]
            return Pending(f"stopping {', '.join(left)}") if left else True

        try:
            until("the stack", stopped, timeout=max(part.stop_seconds for part in members) + 10, progress=show)
        except WaitTimeoutError as error:
            show.update(error.message)  # the daemon's shutdown and the end of all strays follow


def _end(strays: list[psutil.Process]) -> None:
    left = processes.end(strays)
    if left:
        raise PenstockError(
            f"can't be ended: {', '.join(map(processes.describe, left))}", hint="end them as the user who started them"
        )


def status(settings: Settings) -> list[PartStatus]:
    """Return every part that is not left out, as it is now.  Changes nothing; works whether or not the stack runs."""
    manager = Manager(layout(settings))
    everything = parts_in_use(settings)
    try:
        infos = manager.infos()
    except UnavailableError:
        return [_unmanaged(settings, part) for part in everything]
    restarts = manager.restarts()
    with ThreadPoolExecutor(len(everything)) as pool:
        found = list(pool.map(lambda part: _status(part, infos[part.name]), everything))
    return [replace(item, restarts=restarts.get(item.name, 0)) for item in found]


def _unmanaged(settings: Settings, part: Part) -> PartStatus:
    """Return the status of a part where no process manager runs: stopped, or left alone by one that was killed."""
    for process in sorted(processes.own(settings.stack.state), key=lambda process: process.pid):
        try:
            # Its children have the same mark, and greater numbers.
            if process.environ().get("SUPERVISOR_PROCESS_NAME") == part.name:
                info = Info(part.name, "unmanaged", process.pid, int(process.create_time()), "")
                return replace(_status(part, info), healthy=False, health="has lost its process manager: penstock up")
        except psutil.Error:
            continue
    return PartStatus(part.name, "stopped", False, "-", part.url)


def _status(part: Part, info: Info) -> PartStatus:
    if info.pid == 0:
        return PartStatus(part.name, info.state, False, info.why or "-", part.url)
    answer = part.health()
    healthy = not isinstance(answer, Pending)
    return PartStatus(
        name=part.name,
        state=info.state,
        healthy=healthy,
        health=answer.state if isinstance(answer, Pending) else answer,
        url=part.url,
        pid=info.pid,
        uptime=max(0.0, time.time() - info.since),
        rss=processes.memory(info.pid),
    )


@contextmanager
def _locked(settings: Settings, verb: str, show: Progress, timeout: float = UP_TIMEOUT) -> Iterator[Layout]:
    """Hold the stack's lock: one `up` or `down` at a time, others wait and say for whom."""
    from filelock import FileLock, Timeout

    place = make_state(settings)
    lock, owner = FileLock(place.lock), place.run / "lock.owner"

    def acquired() -> bool | Pending:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            who = owner.read_text() if owner.is_file() else "another penstock"
            return Pending(f"{who} is at work on it")
        return True

    until(f"the stack in {place.state}", acquired, timeout=timeout, hint="wait for it, or end it", progress=show)
    try:
        owner.write_text(f"`penstock {verb}` (pid {os.getpid()})")
        yield place
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
