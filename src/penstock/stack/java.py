"""Java: where it is and which version."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from penstock.settings import StackSettings

#: Druid 33 and Flink 2.2 both run on it; none of the parts runs on less.
OLDEST = 17


def find(stack: StackSettings) -> Path | None:
    """Return the `java` to run with: of `java_home` where that is set, else the one on PATH; None if there is none."""
    if stack.java_home is not None:
        java = stack.java_home / "bin" / "java"
        return java if java.is_file() else None
    found = shutil.which("java")
    return Path(found) if found else None


def version(java: Path) -> int | None:
    """Return the major version that `java -version` tells; None where it tells none."""
    try:
        told = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(told.stderr + told.stdout)


def parse_version(text: str) -> int | None:
    """Return 17 of `openjdk version "17.0.15"`, 8 of `java version "1.8.0_202"`."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None
