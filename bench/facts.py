"""What the figures were measured on: the machine, the versions, the command."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from penstock.settings import Settings
from penstock.stack import java


def facts(settings: Settings, command: str, load_before: float) -> Mapping[str, str]:
    """Return the page's head; `load_before` is the load average before the stack was started."""
    return {
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Command": f"`{command}`",
        "Machine": machine(),
        "Load average before the start": f"{load_before:.1f} (1 min)",
        "Versions": ", ".join(f"{name} {number}" for name, number in versions(settings).items()),
    }


def machine() -> str:
    """Return "AMD EPYC, 2 cores, 24 GB, Linux 6.1"."""
    memory = round(psutil.virtual_memory().total / 1e9)
    return f"{_processor()}, {psutil.cpu_count()} cores, {memory} GB, {platform.system()} {platform.release()}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def versions(settings: Settings) -> Mapping[str, str]:
    """Return the versions of what was measured, by the names of the jars."""
    command = java.find(settings.stack)
    told = subprocess.run([str(command), "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "([^"]+)"', told)
    return {
        "Kafka": _jar(settings.jars / "kafka", "kafka_2.13-*.jar"),
        "Flink": version("apache-flink"),
        "Druid": _jar(settings.jars / "druid", "druid-services-*.jar"),
        "Java": found[1] if found else "?",
        "Python": platform.python_version(),
    }


def _jar(folder: Path, pattern: str) -> str:
    found = re.search(r"-(\d[\w.]*)\.jar$", next((jar.name for jar in sorted(folder.glob(pattern))), ""))
    return found[1] if found else "?"
