"""docs/security.md names every port and every secret; docker-compose.yml lets in nobody without a name."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.settings import PORT_OFFSETS, StackSettings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PORT = re.compile(r"127\.0\.0\.1:\$\{(?P<setting>\w+):-(?P<here>\d+)\}:(?P<inside>\d+)")
PUBLISHED = [(name, str(port)) for name, service in SERVICES.items() for port in service.get("ports", [])]


def rows() -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]


@pytest.mark.parametrize(("service", "port"), PUBLISHED)
def test_a_published_port_has_its_row(service: str, port: str) -> None:
    found = PORT.fullmatch(port)
    assert found, port
    row = [f"`{service}`", f"{found['here']}, `{found['setting']}`", found["inside"]]
    assert row in [it[:3] for it in rows()], f"docs/security.md lacks {row}"


def test_no_row_is_of_a_port_that_is_gone() -> None:
    told = {it[1] for it in rows() if re.match(r"\d+, `PENSTOCK_", it[1])}
    assert len(told) == len(PUBLISHED)


@pytest.mark.parametrize("name", PORT_OFFSETS)
def test_a_port_of_the_native_stack_has_its_row(name: str) -> None:
    (row,) = [it for it in rows() if re.search(rf"`{name}`", it[1])]
    first, _, last = row[0].partition(" to ")
    told = range(int(first), int(last) + 1) if last else [int(port) for port in row[0].split(", ")]
    assert StackSettings().port(name) in told
    assert len(told) == len(re.findall(r"`\w+`", row[1]))


def test_every_secret_is_told() -> None:
    names = runpy.run_path(str(ROOT / "infra/compose/make_secrets.py"))["NAMES"]
    told = {name for row in rows() for name in re.findall(r"`(PENSTOCK_\w+)`", row[0])}
    assert told == set(names)


def test_every_user_of_kafka_is_told() -> None:
    users = {user for user, *_ in runpy.run_path(str(ROOT / "infra/compose/kafka_init.py"))["RIGHTS"]}
    assert users <= {name for row in rows() for name in re.findall(r"^`(\w+)`", row[0])}


# What the stand-ins of docs/airgap.md can't be asked: the settings at least say so.


@pytest.mark.parametrize("service", [name for name in SERVICES if name.startswith("druid-")])
def test_druid_lets_in_by_password_alone(service: str) -> None:
    given = SERVICES[service]["environment"]
    assert given["druid_auth_authenticatorChain"] == '["basic"]'
    assert given["druid_auth_authorizers"] == '["basic"]'
    assert given["druid_auth_authenticator_basic_skipOnFailure"] == "false"
    assert "druid-basic-security" in given["druid_extensions_loadList"]
    assert not [name for name in given if "unsecuredPaths" in name or "anonymous" in name.lower()]


def test_kafka_has_no_listener_without_sasl_and_no_right_by_default() -> None:
    given = SERVICES["kafka"]["environment"]
    listeners = {it.partition("://")[0] for it in given["KAFKA_LISTENERS"].split(",")}
    protocols = dict(it.split(":") for it in given["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert {protocols[name] for name in listeners} == {"SASL_PLAINTEXT"}
    assert given["KAFKA_AUTHORIZER_CLASS_NAME"].endswith("StandardAuthorizer")
    assert "KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND" not in given
