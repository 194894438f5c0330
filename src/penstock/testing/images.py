"""`python -m penstock.testing.images`: build the images of Flink and of Penstock that docker-compose.yml names.

No registry has them.  From an installed package, or from the repository; files of compose over the shipped one are
given as arguments.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from penstock.errors import PenstockError
from penstock.testing.containers import override
from penstock.testing.engine import engine
from penstock.testing.shipped import COMPOSE, build_context, write_secrets

#: The services that build an image; kafka-init has Penstock's.
SERVICES = ("flink-jobmanager", "kafka-init")


def build(overrides: Sequence[str]) -> int:
    """Build both images, with compose's own words, and return its exit code."""
    engine()
    with tempfile.TemporaryDirectory(prefix="penstock-images-") as folder:
        build_context(Path(folder))
        names = [COMPOSE, *(str(override(name, Path.cwd())) for name in overrides)]
        files = [word for name in names for word in ("--file", name)]
        # compose asks for every password, also where nothing is run.
        write_secrets(Path(folder))
        words = ["docker", "compose", *files, "--project-directory", folder, "build", *SERVICES]
        return subprocess.run(words, cwd=folder, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(build(sys.argv[1:]))
    except PenstockError as error:
        sys.exit(f"penstock: {error}")
