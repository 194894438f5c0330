"""Backup and restore as a set: what there was comes back whole, and goes on; one store alone is found out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from .stack import PATIENCE, ROOT, Clock, Compose, passed

#: Years that no other test of this folder writes: what is sent before the backup, and what is sent after it.
SINCE, LATER = "2016-01-01", "2016-02-01"
COUNT = 4000
Figures = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Saved:
    """A set, and the figures that were proved when it was made."""

    folder: Path
    before: Figures
    after: Figures


def produce(stack: Compose, start: str) -> None:
    """Send the same events each time that the same `start` is given: late and broken ones among them."""
    options = ["--count", str(COUNT), "--start", start, "--step", "120000", "--seed", "6", "--keys", "12"]
    faults = ["--disorder", "600", "--late", "0.02", "--malformed", "0.01"]
    passed(stack.penstock("produce", "generate", "flights.departed.v1", *options, *faults))


def figures(stack: Compose) -> Figures:
    kept = ("read", "late", "dead_lettered", "windows_compared", "rows_compared")
    return {it["pipeline"]: tuple(it[name] for name in kept) for it in stack.verify("--from", SINCE)}


def in_the_log(found: Figures) -> dict[str, tuple[int, ...]]:
    """Return read and dead-lettered alone: which events are late depends on when each partition is read."""
    return {name: (read, dead) for name, (read, _, dead, *_) in found.items()}


def make(stack: Compose, *words: str) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=ROOT,
        env=stack.environ,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    print(done.stdout, done.stderr, sep="\n")
    return passed(done)


def tool(stack: Compose, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "infra/compose/backup.py", *words],
        cwd=ROOT,
        env=stack.environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def saved(stack: Compose, clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    passed(stack.penstock("apply", "--timeout", "300"))
    produce(stack, SINCE)
    before, folder = figures(stack), tmp_path_factory.mktemp("sets") / "set"
    started = time.monotonic()
    make(stack, "backup", f"TO={folder}")
    clock.time("`make backup`: stopped, archived, healthy again", started)
    size = sum(file.stat().st_size for file in folder.iterdir())
    clock.note("the set's size, compressed", f"{size / 1e6:.0f} MB")
    return Saved(folder, before, figures(stack))


def test_after_a_backup_the_stack_goes_on(stack: Compose, saved: Saved) -> None:
    assert saved.after == saved.before
    assert "nothing to do" in passed(stack.penstock("plan"))


def test_a_set_has_every_volume_and_is_its_owners_alone(stack: Compose, saved: Saved) -> None:
    declared = set(json.loads(stack.run("config", "--format", "json"))["volumes"])
    manifest = json.loads((saved.folder / "manifest.json").read_text())
    assert set(manifest["volumes"]) == declared
    assert saved.folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in saved.folder.iterdir()} == {0o600}
    assert {file.name for file in saved.folder.iterdir()} == {
        "manifest.json",
        "secrets.env",
        *(f"{name}.tar.gz" for name in declared),
    }


def test_a_running_stack_is_not_restored_over(stack: Compose, saved: Saved) -> None:
    done = tool(stack, "restore", str(saved.folder), "--force")
    assert done.returncode == 3
    assert "docker compose down" in done.stderr


def test_a_destroyed_stack_comes_back_as_it_was_and_goes_on(stack: Compose, saved: Saved, clock: Clock) -> None:
    produce(stack, LATER)
    grown = figures(stack)
    assert in_the_log(grown) != in_the_log(saved.before)
    stack.run("down", "--volumes", "--timeout", "30")
    assert stack.left() == {}
    started = time.monotonic()
    said = make(stack, "restore", f"FROM={saved.folder}")
    clock.time("`make restore` after `down -v`: to healthy and verified", started)
    assert said.count(": equal: ") == 3
    assert figures(stack) == saved.before
    assert "nothing to do" in passed(stack.penstock("plan"))
    produce(stack, LATER)
    assert in_the_log(figures(stack)) == in_the_log(grown)


def test_one_store_alone_is_found_out_and_the_set_mends_it(stack: Compose, saved: Saved) -> None:
    """Kafka as of the backup, beside checkpoints and figures that know what was sent after it."""
    stack.run("stop")
    put_back_alone(stack, "kafka", saved.folder)
    stack.up()
    done = stack.penstock("verify", "--from", SINCE, "--timeout", "90")
    print(f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    assert done.returncode in (4, 5), "Kafka's past beside Flink's and Druid's present was taken for whole"
    stack.run("down", "--timeout", "30")
    refused = tool(stack, "restore", str(saved.folder))
    assert refused.returncode == 3
    assert "FORCE=1" in refused.stderr
    make(stack, "restore", f"FROM={saved.folder}", "FORCE=1")
    assert figures(stack) == saved.before


def put_back_alone(stack: Compose, volume: str, folder: Path) -> None:
    """Do by hand what `make restore` does not offer: fill one volume."""
    config = json.loads(stack.run("config", "--format", "json"))
    mount, image = f"{config['volumes'][volume]['name']}:/volume", config["services"]["postgres"]["image"]
    script = "find /volume -mindepth 1 -delete && tar -xzf - --numeric-owner -C /volume"
    words = ["docker", "run", "--rm", "--interactive", "--user=0:0", f"--volume={mount}", "--entrypoint=sh", image]
    with (folder / f"{volume}.tar.gz").open("rb") as archive:
        subprocess.run([*words, "-c", script], stdin=archive, timeout=PATIENCE, check=True)
