"""Reading what a newer Penstock has written: several versions share an environment's records while one is replaced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def known(kind: type, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table without what is no field of this dataclass: a newer Penstock's, which this one does not need."""
    names = {item.name for item in fields(kind)}
    return {name: item for name, item in table.items() if name in names}
