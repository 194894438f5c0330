"""Back up and restore the stack of docker-compose.yml as one set: every volume, and the passwords.

    backup.py backup [DIR]             stop the stack, archive its volumes, start it again
    backup.py restore DIR [--force]    check the set, fill new volumes from it, start the stack, verify

A set is whole or not there: it gets its name last, and is checked first.  --force removes the volumes and passwords in
its way.  Exit codes are penstock's: 1 failed, 2 mistaken, 3 refused; a restore's last word is `penstock verify`'s.
Standard library only: on a new machine it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker_io as docker
from docker_io import Failure, Refusal
from make_secrets import NAMES

FORMAT = 1
MANIFEST, SECRETS, ENV = "manifest.json", "secrets.env", Path(".env")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of this folder's stack: a second backup would take the stopped stack for one that is down."""
    with Path("docker-compose.yml").open() as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal("another backup or restore of this folder is under way: wait for its end") from None
        yield


# --- Passwords.


def parsed(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def secrets() -> dict[str, str]:
    """Return the passwords that compose would use: the environment's, then those of .env."""
    known = {**(parsed(ENV.read_text(encoding="utf-8")) if ENV.exists() else {}), **os.environ}
    return {name: known[name] for name in NAMES if known.get(name)}


def others(wanted: dict[str, str], *, force: bool) -> None:
    """Refuse the set's passwords where others are: the databases know those that they were made with."""
    exported = sorted(name for name in wanted if os.environ.get(name, wanted[name]) != wanted[name])
    if exported:
        raise Refusal(f"the environment has other values than the set: unset {', '.join(exported)}")
    known = secrets()
    differing = sorted(name for name in wanted if known.get(name, wanted[name]) != wanted[name])
    if differing and not force:
        raise Refusal(f"{ENV} has other passwords than the set ({', '.join(differing)}): keep it elsewhere, or FORCE=1")


def keep(wanted: dict[str, str]) -> None:
    """Put the set's passwords into .env, beside whatever else is in it; nothing where the environment has them."""
    if secrets() == wanted:
        return
    lines = ENV.read_text(encoding="utf-8").splitlines() if ENV.exists() else []
    kept = [line for line in lines if line.partition("=")[0].strip() not in wanted]
    draft = ENV.with_name(f"{ENV.name}.new")
    draft.unlink(missing_ok=True)
    docker.write(draft, "\n".join([*kept, *(f"{name}={value}" for name, value in wanted.items()), ""]))
    os.replace(draft, ENV)


# --- Backup.


def backup(target: Path) -> None:
    if target.exists():
        raise Refusal(f"{target} is there already: name a new folder")
    stack = docker.Stack(secrets())
    missing = sorted(set(stack.volumes.values()) - docker.volumes())
    if missing:
        raise Refusal(f"no volume {', '.join(missing)}: the stack has never been up, so there is nothing to back up")
    stack.refuse_strangers("back up")
    draft = target.with_name(f"{target.name}.partial")
    try:
        draft.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise Refusal(f"{draft} was left by a backup that was killed: remove it") from None
    running, started = stack.running(), time.monotonic()
    try:
        archive(stack, draft, running)
        draft.rename(target)
    except BaseException:
        docker.discard(draft)
        raise
    finally:
        if running:
            say(f"the stack stood still for {time.monotonic() - started:.0f} s; starting it again")
            stack.up(running)
    size = sum(file.stat().st_size for file in target.iterdir())
    say(f"{target}: {len(stack.volumes)} volumes and the passwords, {docker.megabytes(size)}; readable by you alone")


def archive(stack: docker.Stack, draft: Path, running: list[str]) -> None:
    """Stop what runs and write the set's files, the manifest last."""
    if running:
        say(f"stopping {len(running)} services: writers first, Kafka, ZooKeeper and PostgreSQL last")
        # The order is compose's own, against depends_on; so is the time that each is given.
        stack.compose("stop")
    volumes = {
        name: docker.pack(stack.image, volume, draft / f"{name}.tar.gz") for name, volume in stack.volumes.items()
    }
    users = docker.users(stack.volumes.values())
    if users:
        raise Failure(f"{', '.join(users)} was started meanwhile, so the volumes are not of one moment: back up again")
    docker.write(draft / SECRETS, "".join(f"{name}={value}\n" for name, value in stack.secrets.items()))
    manifest = {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "project": stack.project,
        "images": stack.images,
        "volumes": volumes,
        "secrets": docker.digest(draft / SECRETS),
    }
    docker.write(draft / MANIFEST, json.dumps(manifest, indent=2) + "\n")


# --- Restore.


def restore(source: Path, *, force: bool) -> int:
    """Return the exit code of `penstock verify` on what was restored."""
    manifest = checked(source)
    wanted = parsed((source / SECRETS).read_text(encoding="utf-8"))
    others(wanted, force=force)
    stack = docker.Stack(wanted)
    same_versions(manifest, stack)
    stack.refuse_strangers("restore")
    running = stack.running()
    if running:
        raise Refusal(f"the stack is up ({len(running)} services): `docker compose down` first")
    there = sorted(set(stack.volumes.values()) & docker.volumes())
    if there and not force:
        raise Refusal(f"volumes are there ({', '.join(there)}): FORCE=1 removes them and all that they hold")
    fill(stack, source)
    keep(wanted)
    stack.up()
    say("verifying")
    code = stack.verify()
    say(
        f"{source}: restored as of {manifest['made']}; "
        + ("it holds" if code == 0 else f"verify's exit code is {code}")
    )
    return code


def checked(source: Path) -> dict[str, Any]:
    """Return the manifest of a set whose every file is as it was written."""
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
        files = {f"{name}.tar.gz": about for name, about in manifest["volumes"].items()} | {
            SECRETS: manifest["secrets"]
        }
    except (OSError, ValueError, KeyError) as error:
        raise Refusal(f"{source} is no whole backup: {MANIFEST}: {error}") from None
    if manifest["format"] != FORMAT:
        raise Refusal(f"{source} has format {manifest['format']}, this reads {FORMAT}: use the version that made it")
    wrong = [name for name, about in files.items() if docker.digest(source / name) != about]
    if wrong:
        raise Refusal(f"{source} is damaged, and nothing was changed; missing or not as written: {', '.join(wrong)}")
    return manifest


def same_versions(manifest: dict[str, Any], stack: docker.Stack) -> None:
    """Refuse other images than the set's: what a new version makes of old data is a question of its own."""
    differing = [
        f"{name}: {manifest['images'].get(name)} in the set, {stack.images.get(name)} here"
        for name in sorted(manifest["images"].keys() | stack.images.keys())
        if manifest["images"].get(name) != stack.images.get(name)
    ]
    if manifest["volumes"].keys() != stack.volumes.keys():
        differing.append(f"volumes: {', '.join(sorted(manifest['volumes'].keys() ^ stack.volumes.keys()))} in one only")
    if differing:
        raise Refusal("the set is of other versions: restore it by those, then upgrade\n  " + "\n  ".join(differing))


def fill(stack: docker.Stack, source: Path) -> None:
    """Fill new volumes, all or none."""
    empty = ("--profile", "*", "down", "--volumes", "--remove-orphans")
    try:
        stack.compose(*empty)
        stack.compose("create")  # the volumes get compose's own labels
        for name, volume in stack.volumes.items():
            docker.unpack(stack.image, source / f"{name}.tar.gz", volume)
    except BaseException:
        say("cut off: removing the volumes, so that no half of a set is ever started")
        stack.compose(*empty)
        raise


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="backup.py", description=(__doc__ or "").split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    default = Path("backups") / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    verbs.add_parser("backup").add_argument("folder", type=Path, nargs="?", default=default)
    to_restore = verbs.add_parser("restore")
    to_restore.add_argument("folder", type=Path)
    to_restore.add_argument("--force", action="store_true")
    asked = parser.parse_args(words)
    # As Ctrl-C: what was stopped is started again, what was half written is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with alone():
            if asked.verb == "restore":
                return restore(asked.folder, force=asked.force)
            backup(asked.folder)
            return 0
    except (Failure, OSError) as error:
        say(f"{asked.verb}: {error}")
        return error.exit_code if isinstance(error, Failure) else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
