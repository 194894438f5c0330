"""What a compose file must hold to: `problems` names every breach.  Pure; nothing is started."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

#: All memory limits together, of what runs at the same time.
MOST_MEMORY = 8 * 1024
_SECRET = re.compile(r"password|secret|jaas|fernet|token|sql_alchemy_conn", re.IGNORECASE)
_REQUIRED = re.compile(r"\$\{\w+:\?[^}]+\}")
_PROVIDER = re.compile(r'\{"type": "environment", "variable": "\w+"\}')
_TAG = re.compile(r"[^:]+:[0-9]+\.[0-9]+[\w.-]*")


def problems(compose: Mapping[str, Any]) -> list[str]:
    """Return every breach as `service: what`."""
    services = compose["services"]
    found = [f"{name}: {what}" for name, service in services.items() for what in _of_service(name, service, services)]
    total = sum(megabytes(it.get("mem_limit")) for name, it in services.items() if not awaited(name, services))
    if total > MOST_MEMORY:
        found.append(f"all: {total} MB of limits, {MOST_MEMORY} at most")
    return found


def megabytes(limit: Any) -> int:
    return int(match[1]) if (match := re.fullmatch(r"(\d+)m", str(limit))) else 0


def awaited(name: str, services: Mapping[str, Any]) -> bool:
    """True for a service that others wait for to end: it does not run beside them."""
    return any(
        (service.get("depends_on") or {}).get(name, {}).get("condition") == "service_completed_successfully"
        for service in services.values()
    )


def _of_service(name: str, service: Mapping[str, Any], services: Mapping[str, Any]) -> Iterator[str]:
    # What ends by itself is not brought back, and has no health: it is awaited, or asked for by a profile.
    once = awaited(name, services) or bool(service.get("profiles"))
    if service.get("restart") != ("no" if once else "unless-stopped"):
        yield f"restart is {service.get('restart')!r}"
    if not once and not (service.get("healthcheck") or {}).get("test"):
        yield "no health check"
    if megabytes(service.get("mem_limit")) == 0:
        yield "no memory limit"
    if str(service.get("user", "root")).partition(":")[0] in ("root", "0"):
        yield "runs as root"
    if not _TAG.fullmatch(str(service.get("image", ""))):
        yield f"image {service.get('image')} has no pinned tag"
    if service.get("cap_drop") != ["ALL"] or service.get("privileged") or service.get("cap_add"):
        yield "keeps capabilities"
    if "container_name" in service or service.get("network_mode"):
        yield "cannot stand beside another stack"
    for port in service.get("ports", []):
        if not re.fullmatch(r"127\.0\.0\.1:\$\{PENSTOCK_\w+_PORT:-\d+\}:\d+", str(port)):
            yield f"port {port} is not on loopback, by a setting"
    for mount in service.get("volumes", []):
        if not re.match(r"[a-z]", str(mount)) and not str(mount).endswith(":ro"):
            yield f"mount {mount} is neither a named volume nor read-only"
    for needed, how in (service.get("depends_on") or {}).items():
        if how.get("condition") not in ("service_healthy", "service_completed_successfully"):
            yield f"does not wait for {needed}"
    for key, value in (service.get("environment") or {}).items():
        if _inline(str(key), str(value)):
            yield f"{key} holds a secret"


def _inline(key: str, value: str) -> bool:
    """True for a secret that is written down, and not referred to in a way that compose refuses to go without."""
    if _PROVIDER.fullmatch(value):
        return False
    given = re.findall(r'password="([^"]*)"|user_\w+="([^"]*)"|://\w+:([^@/]*)@', value)
    if given:
        return not all(_REQUIRED.fullmatch("".join(groups)) for groups in given)
    # A listener's login module that names nobody, and the kinds of Druid's validators, are no secrets.
    harmless = value.endswith("LoginModule required;") or key.endswith(("_type", "Validator"))
    return bool(_SECRET.search(key)) and not harmless and not _REQUIRED.search(value)
