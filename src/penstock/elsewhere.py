"""Environments that Penstock did not start: what verbs of the stack say, and which need files that are not here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from penstock.errors import DeclarationError
from penstock.services.flink import local
from penstock.settings import Settings

#: The environment of docker-compose.yml, and who does there what a verb of the native stack does.
COMPOSE = "compose"
_INSTEAD = {
    "up": "docker compose up --wait",
    "down": "docker compose down",
    "logs": "docker compose logs --follow",
    "doctor": "docker compose ps",
}
#: Where everything that Penstock does can be done in compose.
_INSIDE = "docker compose exec airflow-scheduler penstock"


@dataclass(frozen=True)
class Reached:
    """A service of an environment as `penstock status` shows it."""

    name: str
    address: str
    state: str


def require_native(settings: Settings, verb: str) -> None:
    """Raise DeclarationError for a verb of the native stack in another environment, with what to do there."""
    name = settings.env.name
    if name == "native":
        return
    hint = f"`{_INSTEAD[verb]}`" if name == COMPOSE else "its services are run by whatever started them"
    raise DeclarationError(f"`penstock {verb}` is for the native stack; {name} is another environment", hint=hint)


def reached(settings: Settings) -> list[Reached]:
    """Ask each service of an environment whether it answers."""
    from penstock.health import services_down
    from penstock.services.http import shown
    from penstock.services.protocols import connect

    env = settings.env
    addresses = {
        "Kafka": env.kafka.bootstrap,
        "Flink": shown(env.flink.rest),
        "Druid": shown(env.druid.coordinator),
        "Druid's broker": shown(env.druid.broker),
    }
    ill = {found.subject: f"{found.state}: {found.cause}" for found in services_down(connect(settings))}
    return [Reached(name, address, ill.get(name, "answers")) for name, address in addresses.items()]


def refuse_without_files(settings: Settings, verb: str, words: Sequence[str]) -> None:
    """Raise DeclarationError where `flink.state` is a directory that this machine does not have.

    Before Flink has written anything there is only the directory that it will be in.  `words` are those of the command
    line, to be given where the files are.
    """
    folder = local(settings.env.flink.state)
    if folder is None or folder.is_dir() or folder.parent.is_dir():
        return
    uri = urlsplit(settings.env.flink.state).path
    hint = "run it on a machine that shares this directory with Flink and Druid's indexers"
    if settings.env.name == COMPOSE:
        hint = f"run it inside: {_INSIDE} {shlex.join(_without_env(words))}"
    raise DeclarationError(f"`penstock {verb}` reads files below {uri}, which this machine does not have", hint=hint)


def _without_env(words: Sequence[str]) -> list[str]:
    """Return a command line without its `--env`: inside, the environment is the only one."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word.startswith("--env="):
            skip = False
        elif word == "--env":
            skip = True
        else:
            kept.append(word)
    return kept
