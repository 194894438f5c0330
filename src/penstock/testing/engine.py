"""What a Docker engine has of the containers that a session needs; asked, never pulled."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from penstock.errors import UnavailableError

if TYPE_CHECKING:
    from docker import DockerClient

#: Seconds for one question to the engine, and for all of them.
TIMEOUT, DEADLINE = 5, 20
#: What builds Penstock's own images, and by which they are told from those of an override.
BUILD, DOCKERFILE = "python -m penstock.testing.images", "infra/images/Dockerfile"
#: How the engine of this machine is called, by its socket or by its address.
HERE = ("localhost", "localnpipe", "127.0.0.1")


class NoEngineError(UnavailableError):
    """Containers can't be had on this machine; the message says why."""


def engine() -> DockerClient:
    """Return the machine's Docker engine.  Raises NoEngineError where none answers."""
    if shutil.which("docker") is None:
        raise NoEngineError("there is no `docker` on PATH")
    try:
        from docker.errors import DockerException
        from testcontainers.core.docker_client import DockerClient
    except ImportError:
        raise NoEngineError("testcontainers is not installed (penstock[containers])") from None
    try:
        client = DockerClient(timeout=TIMEOUT).client
        client.ping()
    except (DockerException, OSError) as error:
        raise NoEngineError(f"no Docker engine answers: {_cause(error)}") from None
    if urlsplit(client.api.base_url).hostname not in HERE:
        raise NoEngineError(f"the Docker engine is elsewhere, {client.api.base_url}, and ports are on its 127.0.0.1")
    return client


def services(files: list[str], folder: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the services of compose files, as compose merges them.  Raises NoEngineError where it can't."""
    words = [word for file in files for word in ("--file", file)]
    command = ["docker", "compose", *words, "config", "--no-interpolate", "--format", "json"]
    try:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **environ}, capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        raise NoEngineError("`docker compose config` does not end") from None
    if done.returncode:
        raise NoEngineError(f"`docker compose config` failed: {done.stderr.strip()[-400:]}")
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def require(client: DockerClient, wanted: Mapping[str, Any]) -> str:
    """Return where the services' images are to come from.  Raises NoEngineError with the first that can't be had."""
    from docker.errors import DockerException, ImageNotFound

    began, pulled = time.monotonic(), set[str]()
    built = {service["image"]: service["build"] for service in wanted.values() if "build" in service}
    for image in sorted({service["image"] for service in wanted.values()}):
        try:
            client.images.get(image)
            continue
        except ImageNotFound:
            if image in built:
                ours = built[image].get("dockerfile") == DOCKERFILE
                raise NoEngineError(f"the image {image} is not built", hint=BUILD if ours else None) from None
        try:
            if time.monotonic() - began > DEADLINE:
                raise NoEngineError(f"no answer about {image} after {DEADLINE} s")
            client.images.get_registry_data(image)
        except (DockerException, OSError) as error:
            raise NoEngineError(f"the image {image} is not here, and can't be pulled: {_cause(error)}") from None
        pulled.add(image)
    return f"{len(pulled)} images to pull" if pulled else "its images are here"


def jars(client: DockerClient, image: str, folder: Path) -> None:
    """Take the jars of Flink's image into `folder`: what compiles a job is what will run it."""
    container = client.containers.create(image)
    try:
        chunks, _ = container.get_archive("/opt/penstock/.penstock/jars/flink")
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            archive.extractall(folder, filter="data")
    finally:
        container.remove()


def _cause(error: BaseException) -> str:
    """Return what an error of the engine says, in one line."""
    explained = getattr(error, "explanation", None) or error
    return " ".join(str(explained).split())[:300]
