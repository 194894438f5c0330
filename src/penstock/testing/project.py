"""A project on a stack that others use too: compiled plans, locks and logs are its own."""

from __future__ import annotations

from pathlib import Path

from penstock.settings import FILE, Settings

#: Where a project on containers has its stack's ports, passwords and name.
SECRETS = ".env"


def project(stack: Settings, folder: Path, jobs: Path | None = None) -> Settings:
    """Make a project in `folder` with the settings and jars of `stack`, and return its settings.

    `jobs` is linked into it; without, its jobs are still to be written.
    """
    (folder / ".penstock").mkdir(parents=True)
    (folder / ".penstock" / "jars").symlink_to(stack.jars)
    (folder / FILE).write_text((stack.root / FILE).read_text(encoding="utf-8"), encoding="utf-8")
    link = folder / stack.jobs.relative_to(stack.root)
    if jobs is not None:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(jobs)
    return stack.model_copy(update={"root": folder, "jobs": link})


def environ(stack: Settings) -> dict[str, str]:
    """Return the environment variables by which a process finds a session's stack, from whichever project."""
    if stack.env.name == "native":
        place = {"PENSTOCK_STATE": str(stack.stack.state), "PENSTOCK_PORT_BASE": str(stack.stack.port_base)}
        return {"PENSTOCK_ENV": "native", **place}
    return {"PENSTOCK_ENV": stack.env.name, **variables(stack.root / SECRETS)}


def variables(file: Path) -> dict[str, str]:
    """Return the lines NAME=value of a file."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines if line)}
