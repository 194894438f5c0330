"""The stack comes up healthy, small and closed; a second `up` touches nothing."""

from __future__ import annotations

import json
import os
import subprocess
import time

from ..compose_rules import MOST_MEMORY
from .stack import FILES, ONCE, ROOT, Clock, Compose, docker, well


def test_every_container_is_healthy(stack: Compose) -> None:
    containers = stack.containers()
    assert [it["Service"] for it in containers if not well(it)] == []
    declared = set(stack.run("config", "--services").split())
    assert {it["Service"] for it in containers} == declared


def test_no_container_runs_as_root_or_was_killed_for_memory(stack: Compose) -> None:
    for container in stack.containers():
        found = stack.inspect(container["Service"])
        assert found["Config"]["User"].partition(":")[0] not in ("", "0", "root"), container["Service"]
        assert not found["State"]["OOMKilled"], container["Service"]
        assert found["RestartCount"] == 0, container["Service"]


def test_it_stays_within_its_memory(stack: Compose, clock: Clock) -> None:
    running = [it["Service"] for it in stack.containers() if it["State"] == "running"]
    limits = [stack.inspect(service)["HostConfig"]["Memory"] for service in running]
    assert all(limits) and sum(limits) <= MOST_MEMORY * 1024**2
    used = stack.memory()
    clock.note(f"memory in use when idle, {len(running)} containers", f"{used:,.0f} MiB")
    assert 0 < used < MOST_MEMORY


def test_every_published_port_is_on_loopback(stack: Compose) -> None:
    bound = {
        binding["HostIp"]
        for it in stack.containers()
        for ports in stack.inspect(it["Service"])["NetworkSettings"]["Ports"].values()
        for binding in ports or ()
    }
    assert bound == {"127.0.0.1"}


def test_every_volume_has_a_name(stack: Compose) -> None:
    """One that an image asks for and nobody names would be left behind by each `down`."""
    names = {
        mount["Name"]
        for it in stack.containers()
        for mount in stack.inspect(it["Service"])["Mounts"]
        if mount["Type"] == "volume"
    }
    assert {name for name in names if not name.startswith(f"{stack.project}_")} == set()


def test_a_second_up_touches_nothing(stack: Compose, clock: Clock) -> None:
    def running() -> dict[str, tuple[str, str]]:
        found = {it["Service"]: stack.inspect(it["Service"]) for it in stack.containers() if it["Service"] not in ONCE}
        return {name: (it["Id"], it["State"]["StartedAt"]) for name, it in found.items()}

    before, started = running(), time.monotonic()
    stack.up()
    clock.time("a second `up --wait`, which makes nothing anew", started)
    assert running() == before


def test_without_passwords_it_is_refused(engine: str) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    files = [word for file in FILES for word in ("--file", file)]
    done = subprocess.run(
        ["docker", "compose", "--env-file", os.devnull, *files, "up", "--detach"],
        cwd=ROOT,
        env={**bare, "COMPOSE_PROJECT_NAME": "penstock-airgap-bare"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "run make secrets" in done.stderr
    assert docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=penstock-airgap-bare") == ""


def test_no_password_is_in_a_log(stack: Compose) -> None:
    logs = stack.run("logs", "--no-color")
    shown = [name for name, value in stack.secrets.items() if name.endswith("PASSWORD") and value in logs]
    assert shown == []


def test_the_settings_that_compose_makes_hold_together(built: Compose) -> None:
    services = json.loads(built.run("config", "--format", "json"))["services"]
    official = [name for name, it in services.items() if not it["image"].startswith("penstock")]
    assert official == []
