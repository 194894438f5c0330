"""Docker for backup.py: the project that compose would run, and volumes to and from archives.

An archive is made by `tar` in a container of PostgreSQL's image, which is there anyway, with owners as numbers; it goes
through a pipe, so the engine may be on another machine, and the files are the caller's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

CHUNK = 1 << 20
#: Seconds between two lines of progress.
EVERY = 2.0
#: What root keeps of its rights beside a volume: to read any owner's files, or to write them as theirs.
READ, WRITE = "DAC_READ_SEARCH", "CHOWN DAC_OVERRIDE FOWNER FSETID"


class Failure(Exception):
    exit_code = 1


class Refusal(Failure):
    exit_code = 3


def docker(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(["docker", *words], text=True, check=False, **options)
    except FileNotFoundError:
        raise Failure("no docker on PATH: install Docker with compose v2") from None
    if done.returncode != 0:
        raise Failure(f"docker {' '.join(words[:4])}: exit {done.returncode}\n{done.stderr or ''}".rstrip())
    return done


def asked(*words: str, **options: Any) -> list[str]:
    return docker(*words, capture_output=True, **options).stdout.splitlines()


def volumes() -> set[str]:
    return set(asked("volume", "ls", "--quiet"))


def users(names: Iterable[str], template: str = "{{.Names}}") -> list[str]:
    """Return the running containers that have one of these volumes."""
    return asked("ps", "--format", template, *(word for name in names for word in ("--filter", f"volume={name}")))


class Stack:
    """The project as compose sees it here: its files, name and profiles are compose's own settings."""

    def __init__(self, secrets: dict[str, str]) -> None:
        self.secrets = secrets
        self.environ = {**os.environ, **secrets}
        found = json.loads("\n".join(asked("compose", "config", "--format", "json", env=self.environ)))
        self.project: str = found["name"]
        self.volumes: dict[str, str] = {name: it["name"] for name, it in sorted(found["volumes"].items())}
        services = {name: it for name, it in sorted(found["services"].items()) if not it.get("profiles")}
        self.images: dict[str, str] = {name: it["image"] for name, it in services.items()}
        self.image = self.images["postgres"]
        # What ends by itself is run again by compose before those that wait for it.
        self._lasting = {name for name, it in services.items() if it.get("restart") != "no"}

    def compose(self, *words: str) -> None:
        # Nobody there to be asked: compose's words and progress go straight to the user.
        docker("compose", *words, env=self.environ, stdin=subprocess.DEVNULL, stdout=sys.stderr)

    def running(self) -> list[str]:
        mine = f"label=com.docker.compose.project={self.project}"
        found = asked("ps", "--filter", mine, "--format", '{{.Label "com.docker.compose.service"}}')
        return sorted(self._lasting & set(found))

    def refuse_strangers(self, verb: str) -> None:
        """Refuse while a container has the volumes that `stop` and `down` would leave running: the demo is one."""
        template = '{{.Label "com.docker.compose.project"}} {{.Label "com.docker.compose.service"}} {{.Names}}'
        known = {(self.project, name) for name in self._lasting}
        lines = (line.split(" ") for line in users(self.volumes.values(), template))
        strangers = [name for project, service, name in lines if (project, service) not in known]
        if strangers:
            raise Refusal(f"{', '.join(strangers)} is running: wait for its end, or stop it, then {verb}")

    def up(self, services: Iterable[str] = ()) -> None:
        self.compose("up", "--detach", "--wait", "--no-recreate", *services)

    def verify(self) -> int:
        words = ["docker", "compose", "exec", "-T", "airflow-scheduler", "penstock", "verify", "--timeout", "300"]
        return subprocess.run(words, env=self.environ, stdin=subprocess.DEVNULL, check=False).returncode


# --- Files, readable by their owner only.


def write(file: Path, text: str) -> None:
    with private(file) as stream:
        stream.write(text.encode())


def private(file: Path) -> IO[bytes]:
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def discard(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def pump(source: IO[bytes], sink: IO[bytes] | None, what: str) -> dict[str, Any]:
    """Copy to the end and return the size and digest of what has passed, with a line of progress every two seconds."""
    total, digest = 0, hashlib.sha256()
    started = shown = time.monotonic()
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        total += len(chunk)
        if sink:
            sink.write(chunk)
        if time.monotonic() - shown >= EVERY:
            shown = time.monotonic()
            print(f"{what}: {megabytes(total)} ({shown - started:.0f} s)", file=sys.stderr, flush=True)
    return {"bytes": total, "sha256": digest.hexdigest()}


def digest(file: Path) -> dict[str, Any] | None:
    """Return the size and digest of a file, None where there is none."""
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        return pump(stream, None, f"checking {file.name}")


# --- Volumes.


@contextlib.contextmanager
def beside(image: str, volume: str, rights: str, script: str, **pipes: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run `script` beside a volume as root, with no right but to whatever owner's files; it is gone afterwards."""
    name = f"{volume}-backup"
    given = [f"--cap-add={right}" for right in rights.split()]
    bounds = ["--network=none", "--read-only", "--cap-drop=ALL", *given, "--security-opt=no-new-privileges"]
    mount = f"--volume={volume}:/volume" + (":ro" if rights == READ else "")
    # Docker would write all that passes into a log of its own.
    run = ["docker", "run", "--rm", "--interactive", "--log-driver=none", f"--name={name}", "--user=0:0", *bounds]
    try:
        with subprocess.Popen([*run, mount, "--entrypoint=sh", image, "-c", script], **pipes) as process:
            yield process
    except BaseException:
        # The client's end is not the container's.
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
        raise
    if process.returncode != 0:
        raise Failure(f"volume {volume}: tar's exit code is {process.returncode}, and its words are above")


def pack(image: str, volume: str, file: Path) -> dict[str, Any]:
    """Archive a volume; holes stay holes (Kafka's indexes are mostly that)."""
    script = (
        "exec tar --create --sparse --numeric-owner --use-compress-program='gzip -1' --directory=/volume --file=- ."
    )
    with private(file) as sink:
        with beside(image, volume, READ, script, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout
            about = pump(process.stdout, sink, f"archiving {volume}")
        sink.flush()
        os.fsync(sink.fileno())
    print(f"archived {volume}: {megabytes(about['bytes'])}", file=sys.stderr, flush=True)
    return about


def unpack(image: str, file: Path, volume: str) -> None:
    """Fill a volume with an archive, and nothing else: an image puts folders of its own into a new one."""
    script = "find /volume -mindepth 1 -delete && exec tar --extract --gzip --file=- --directory=/volume"
    owners = " --numeric-owner --same-owner --preserve-permissions"
    with file.open("rb") as source, beside(image, volume, WRITE, script + owners, stdin=subprocess.PIPE) as process:
        assert process.stdin
        # Where the pipe breaks, the exit code tells.
        with contextlib.suppress(BrokenPipeError):
            pump(source, process.stdin, f"restoring {volume}")
            process.stdin.close()
    print(f"restored {volume}", file=sys.stderr, flush=True)
