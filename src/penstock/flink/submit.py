"""Submit jobs to a Flink session cluster.

PyFlink compiles and submits in a process of its own (`python -m penstock.flink.submit`): its JVM, its environment
variables and what it prints stay out of the caller's.  One such process takes all jobs of an `apply`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from penstock.errors import DeclarationError, PenstockError, UnavailableError
from penstock.flink.quota import QuotaError, quota_client, set_quotas
from penstock.flink.spec import JobSpec
from penstock.settings import Settings
from penstock.wait import Progress, Silent

if TYPE_CHECKING:  # its module derives from this package
    from penstock.replay.derive import BatchSpec

_REPORT = "@penstock "


def plan_file(settings: Settings, spec: JobSpec) -> Path:
    """Return where a version's compiled plan is kept; a restart uses the very plan that its state was made by."""
    name = f"{spec.name.removeprefix('penstock.')}-{spec.version}.json"
    return settings.home / "plans" / settings.env.name / name


def interpreter(settings: Settings) -> str:
    """Return the Python that has PyFlink: this one, unless `[env.X.flink] python` names another."""
    other = settings.env.flink.python
    if other is None:
        return sys.executable
    python = settings.root / other.expanduser()
    if not os.access(python, os.X_OK):
        raise DeclarationError(
            f"[env.{settings.env.name}.flink] python: {python} can't be run",
            hint="name an interpreter that has PyFlink and Penstock (its extra `flink`), or leave the setting out",
        )
    return str(python)


def submit(settings: Settings, specs: Sequence[JobSpec], progress: Progress | None = None) -> None:
    """Compile (once for each version) and submit every job; one that Flink already has is success.

    Raises PenstockError with Flink's root cause and the pipeline's name; jobs before it have been submitted.
    """
    jobs = [asdict(spec) | {"plan": str(plan_file(settings, spec))} for spec in specs]
    request = {"rest": settings.env.flink.rest, "jobs": jobs}
    _run(request, settings.jars, settings.home / "logs", progress or Silent(), interpreter(settings))


def submit_batch(settings: Settings, spec: BatchSpec, progress: Progress | None = None) -> None:
    """Submit a bounded job; one that Flink already has is success.  Its statement is planned anew: it has no state.

    Its consumers' quotas are set first.
    """
    client = quota_client(settings.env.kafka)
    request = {"rest": settings.env.flink.rest, "jobs": [asdict(spec) | {"plan": None, "client": client}]}
    _run(request, settings.jars, settings.home / "logs", progress or Silent(), interpreter(settings))


def compiled(settings: Settings, specs: Sequence[JobSpec], progress: Progress | None = None) -> list[str]:
    """Return the compiled plans of jobs, as their submission uses them; made now where there is none yet."""
    files = [plan_file(settings, spec) for spec in specs]
    jobs = [asdict(spec) | {"plan": str(file)} for spec, file in zip(specs, files, strict=True) if not file.exists()]
    request = {"rest": None, "jobs": jobs}
    _run(request, settings.jars, settings.home / "logs", progress or Silent(), interpreter(settings))
    return [file.read_text(encoding="utf-8") for file in files]


def compile_plans(jars: Path, specs: Sequence[JobSpec], folder: Path) -> dict[str, str]:
    """Compile every job into `folder` and return the plans' JSON by pipeline.  Needs Java, and no service."""
    jobs = [asdict(spec) | {"plan": str(folder / f"{spec.pipeline}.json")} for spec in specs]
    _run({"rest": None, "jobs": jobs}, jars, folder, Silent())
    return {spec.pipeline: (folder / f"{spec.pipeline}.json").read_text(encoding="utf-8") for spec in specs}


def renumbered(plan: str) -> str:
    """Number a compiled plan's nodes from 1.

    Flink numbers them by a counter of the process, and names operators, and so their state, after the number: left so,
    the state of a job would fit only plans compiled after the same other plans.
    """
    table = json.loads(plan)
    first = min(node["id"] for node in table["nodes"])
    for node in table["nodes"]:
        node["id"] -= first - 1
    for edge in table["edges"]:
        edge["source"] -= first - 1
        edge["target"] -= first - 1
    return json.dumps(table, indent=1)


def keep(draft: Path, plan: Path) -> None:
    """Put a compiled plan, renumbered, in its place: whole or not at all, as one that is there is never made again."""
    draft.write_text(renumbered(draft.read_text(encoding="utf-8")), encoding="utf-8")
    os.replace(draft, plan)


def _run(request: dict[str, Any], jars: Path, logs: Path, show: Progress, python: str = sys.executable) -> None:
    """Run the planner's process with a request; its reports go to `show`, its failure becomes a PenstockError."""
    if not request["jobs"]:
        return
    logs.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [python, "-m", "penstock.flink.submit"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(jars, logs),
    )
    assert process.stdin is not None and process.stdout is not None
    with process:
        # One that ends at once says why by its last words and its exit code.
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        show.update("starting the planner")
        tail: deque[str] = deque(maxlen=20)
        for line in process.stdout:
            if not line.startswith(_REPORT):
                tail.append(line.rstrip())
                continue
            report = json.loads(line.removeprefix(_REPORT))
            if "error" in report:
                raise _failure(report, request["rest"], logs)
            show.update(f"{report['pipeline']}: {report['state']}")
        with suppress(BrokenPipeError):  # open until here: see `_end_with_caller`
            process.stdin.close()
    if process.returncode != 0:
        raise PenstockError("Flink's planner failed: " + "\n  ".join(tail), hint=f"the planner's log is in {logs}")


def _failure(report: dict[str, str], rest: str | None, logs: Path) -> PenstockError:
    pipeline, reason, hint = report["pipeline"], report["error"], f"the planner's log is in {logs}"
    if "Connection refused" in reason:
        return UnavailableError(f"{pipeline}: Flink does not answer at {rest}: {reason}", hint=hint)
    if report.get("refused") == "quota":
        way = "allow its user to AlterConfigs on the cluster, or take replay_bytes_per_second out of penstock.toml"
        return PenstockError(f"{pipeline}: Kafka refused the quota of its replays: {reason}", hint=f"{way}; {hint}")
    return PenstockError(f"{pipeline}: Flink refused the job: {reason}", hint=hint)


def _environment(jars: Path, logs: Path) -> dict[str, str]:
    source = str(Path(__file__).parents[2])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])),
        "FLINK_LOG_DIR": str(logs),
        # Flink's own hook for extra jars on a client's class path.
        "HADOOP_CLASSPATH": os.pathsep.join(str(jar) for jar in sorted((jars / "flink").glob("*.jar"))),
        "JVM_ARGS": "-Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
    }


def _report(**values: str) -> None:
    print(_REPORT + json.dumps(values), flush=True)


def _submit_one(job: dict[str, Any], rest: str | None) -> None:
    from pyflink.common import Configuration
    from pyflink.table import EnvironmentSettings, TableEnvironment

    configuration = Configuration()
    for key, value in {**_target(rest), **job["config"]}.items():
        configuration.set_string(key, value)
    bounded = job["plan"] is None
    if bounded:
        from pyflink.java_gateway import get_gateway

        set_quotas(get_gateway().jvm, job["client"], job["quotas"])
    builder = EnvironmentSettings.new_instance()
    builder = builder.in_batch_mode() if bounded else builder.in_streaming_mode()
    environment = TableEnvironment.create(builder.with_configuration(configuration).build())
    for table in job["tables"]:
        environment.execute_sql(table)
    if bounded:
        _report(pipeline=job["pipeline"], state="submitting")
        environment.execute_sql(job["statement"])
        _report(pipeline=job["pipeline"], state="submitted")
        return
    plan = Path(job["plan"])
    if not plan.exists():
        _report(pipeline=job["pipeline"], state="compiling")
        plan.parent.mkdir(parents=True, exist_ok=True)
        draft = plan.with_suffix(f".{os.getpid()}.tmp")
        environment.execute_sql(f"COMPILE PLAN '{draft.as_uri()}' FOR {job['statements']}")
        keep(draft, plan)
    if rest is None:
        return
    _report(pipeline=job["pipeline"], state="submitting")
    environment.execute_sql(f"EXECUTE PLAN '{plan.as_uri()}'")
    _report(pipeline=job["pipeline"], state="submitted")


def _target(rest: str | None) -> dict[str, str]:
    if rest is None:
        return {}
    address = urlsplit(rest)
    return {"execution.target": "remote", "rest.address": str(address.hostname), "rest.port": str(address.port)}


def _root_cause(error: BaseException) -> str:
    """Return the last cause in a Java stack trace, in one line."""
    lines = str(error).splitlines()
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes or [line for line in lines if line.strip()] or [repr(error)])[-1 if causes else 0]


def _end_with_caller() -> None:
    """End this process, and with it its JVM, as soon as the caller is gone, however it ended.

    Left alone it would submit a job later of which nobody knows.  The caller's end of the pipe is closed by the
    operating system; PyFlink's JVM watches its own likewise.
    """

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _main() -> int:
    request = json.loads(sys.stdin.readline())
    _end_with_caller()
    for job in request["jobs"]:
        try:
            _submit_one(job, request["rest"])
        except Exception as error:
            if "DuplicateJobSubmissionException" in str(error) or "already been submitted" in str(error):
                _report(pipeline=job["pipeline"], state="already there")
                continue
            print(error, flush=True)
            refused = "quota" if isinstance(error, QuotaError) else "job"
            _report(pipeline=job["pipeline"], error=_root_cause(error), refused=refused)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
