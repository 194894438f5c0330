"""Every machine that the stack can't run on, said before anything starts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from penstock.errors import DeclarationError
from penstock.settings import Settings
from penstock.stack import checks, java, native, render
from penstock.stack.doctor import LONGEST_RESTART, transaction_timeout_check
from penstock.stack.processes import MARK


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_202"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ('openjdk version "25-ea" 2025-09-16', 25),
        ("bash: java: not found", None),
    ],
)
def test_java_tells_its_version(text: str, version: int | None) -> None:
    assert java.parse_version(text) == version


def test_no_java(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = settings.stack.model_copy(update={"java_home": None})
    monkeypatch.setenv("PATH", "/nowhere")
    check = checks.java_check(settings.model_copy(update={"stack": stack}))
    assert check.state == "failed"
    assert "no `java` on PATH" in str(check)
    assert "JAVA_HOME" in check.hint


def test_a_java_home_without_java(settings: Settings) -> None:
    shutil.rmtree(settings.root / "jdk")
    check = checks.java_check(settings)
    assert check.state == "failed"
    assert f"no bin/java in {settings.root / 'jdk'}" in check.detail


def test_a_java_too_old(settings: Settings) -> None:
    java_file = settings.root / "jdk/bin/java"
    java_file.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    check = checks.java_check(settings)
    assert check.state == "failed"
    assert "is version 11, at least 17 is needed" in check.detail


def test_too_little_memory(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "available_bytes", lambda: 1500 << 20)
    check = checks.memory_check(settings)
    assert check.state == "failed"
    assert check.detail == "1,500 MiB available, at least 4,096 are needed"
    monkeypatch.setattr(checks, "available_bytes", lambda: 5000 << 20)
    assert checks.memory_check(settings).state == "warning"
    monkeypatch.setattr(checks, "available_bytes", lambda: 8000 << 20)
    assert checks.memory_check(settings).state == "ok"


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("4000\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1500\ninactive_file 500\n")
    assert checks._container_bytes(tmp_path) == [1500]
    (tmp_path / "memory.max").write_text("max\n")
    assert checks._container_bytes(tmp_path) == []
    assert checks._container_bytes(tmp_path / "none") == []


def test_jars_missing(settings: Settings) -> None:
    next((settings.jars / "druid").glob("druid-services-*.jar")).unlink()
    check = checks.jars_check(settings)
    assert check.state == "failed"
    assert "druid/druid-services-*.jar" in check.detail
    assert "make setup" in check.hint


def test_a_port_in_use_is_said_with_part_and_process(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.stack.port("druid_broker")))
        taken.listen()
        check = checks.ports_check(settings)
    assert check.state == "failed"
    assert f"port {settings.stack.port('druid_broker')} of druid-broker is in use by pid {os.getpid()}" in check.detail
    assert "PENSTOCK_PORT_BASE" in check.hint


def test_a_port_taken_on_every_address_is_in_use(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", settings.stack.port("kafka")))
        taken.listen()
        assert checks.ports_check(settings).state == "failed"


@pytest.mark.parametrize(("mine", "state"), [(True, "ok"), (False, "failed")])
def test_only_the_own_stack_may_hold_a_port(settings: Settings, mine: bool, state: str) -> None:
    code = "import socket,sys,time; s=socket.create_server(('127.0.0.1', int(sys.argv[1]))); print(); time.sleep(60)"
    owner = settings.stack.state if mine else "/another/stack"
    holder = subprocess.Popen(
        [sys.executable, "-uc", code, str(settings.stack.port("kafka"))],
        env={**os.environ, MARK: str(owner)},
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        check = checks.ports_check(settings)
        assert check.state == state
        if not mine:
            assert "of the stack in /another/stack" in check.detail
    finally:
        holder.kill()
        holder.communicate()


def test_a_state_directory_that_can_not_be_written(settings: Settings) -> None:
    (settings.root / "file").touch()
    stack = settings.stack.model_copy(update={"state": settings.root / "file" / "state"})
    broken = settings.model_copy(update={"stack": stack})
    assert checks.state_check(broken).state == "failed"
    with pytest.raises(DeclarationError, match=r"state directory .*: Not a directory\n.*PENSTOCK_STATE"):
        native.up(broken)


def test_the_state_directory_is_its_owners(settings: Settings) -> None:
    state = settings.stack.state
    for write in (checks.make_state, lambda settings: render.write(settings, {})):
        write(settings)
        assert state.stat().st_mode & 0o777 == 0o700
        state.chmod(0o755)
        write(settings)
        assert state.stat().st_mode & 0o777 == 0o700
        shutil.rmtree(state)


def test_all_that_stands_against_it_is_said_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started, and nothing is formatted."""
    monkeypatch.setattr(checks, "available_bytes", lambda: 1500 << 20)
    shutil.rmtree(settings.root / "jdk")
    shutil.rmtree(settings.jars / "kafka")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", settings.stack.port("kafka")))
        taken.listen()
        with pytest.raises(DeclarationError) as caught:
            native.up(settings)
    said = [problem.partition(":")[0] for problem in caught.value.problems]
    assert said == ["java", "jars", "memory", "ports"]
    assert not (settings.stack.state / "conf").exists()
    assert not [process for process in psutil.Process().children(recursive=True) if process.is_running()]


@pytest.mark.parametrize(
    ("broker", "timeout", "interval", "state"),
    [
        (3600, 900, 1, "ok"),
        (600, 900, 1, "failed"),  # the broker would refuse the sink
        (3600, LONGEST_RESTART, 1, "failed"),  # a restart would lose what is not yet committed
        (3600, 900, 900 - LONGEST_RESTART, "failed"),
    ],
)
def test_transactions_outlast_a_restart(
    settings: Settings, broker: float, timeout: float, interval: float, state: str
) -> None:
    flink = settings.env.flink.model_copy(update={"transaction_timeout": timeout, "checkpoint_interval": interval})
    changed = settings.model_copy(update={"env": settings.env.model_copy(update={"flink": flink})})
    assert transaction_timeout_check(changed, broker).state == state
