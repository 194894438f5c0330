"""Pages that several drills write: each its own section."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def put(page: Path, heading: str, lines: Sequence[str]) -> None:
    """Write the section under `heading` (`# ...` is the page's beginning, `## ...` comes after it); the others stay."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    sections = [part.rstrip() for part in re.split(r"^(?=## )", text, flags=re.MULTILINE) if part.strip()]
    new = "\n".join([heading, "", *lines]).rstrip()
    own = [at for at, part in enumerate(sections) if part.splitlines()[0] == heading]
    if own:
        sections[own[0]] = new
    else:
        sections.insert(0 if heading.startswith("# ") else len(sections), new)
    page.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
