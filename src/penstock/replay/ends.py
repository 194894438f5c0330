"""What becomes of a pipeline's replays when it is taken away.  Their records tell: no declaration is needed."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

from penstock.flink.spec import job_name
from penstock.generation import called
from penstock.lock import only_one
from penstock.replay.derive import batch_job_id, replay_folder, task_id
from penstock.replay.record import Replay
from penstock.services.flink import local
from penstock.services.protocols import Services
from penstock.settings import Settings
from penstock.topics import derived_topics
from penstock.wait import Pending, until


def forget(name: str, services: Services, settings: Settings, *, timeout: float = 120) -> list[str]:
    """End a pipeline's unfinished replays and void its receipts, since its rows go; return what was done, in lines.

    Receipts tell what Druid holds: kept as they are, those of a pipeline that is gone would heal late events of the
    next one of its name.  May be repeated.  Raises BusyError where another process runs one.
    """
    done = []
    for replay in unfinished(name, services):
        with only_one(settings, replay.id):
            found = services.replays.read()[replay.id]
            if found.status == "running":
                end(found, services, settings, timeout=timeout)
                done.append(f"replay {replay.id} given up")
    void = [it for it in services.replays.read().values() if it.pipeline == name and it.status == "done"]
    for receipt in void:
        services.replays.write(receipt.but(status="removed"))
    if void:
        done.append(f"{len(void):,} receipts count no more: the rows that they tell of are dropped")
    return done


def unfinished(name: str, services: Services) -> list[Replay]:
    """Return a pipeline's replays that have not ended, dry runs too."""
    return [it for it in services.replays.read().values() if it.pipeline == name and it.status == "running"]


def end(replay: Replay, services: Services, settings: Settings, *, timeout: float = 120) -> Replay:
    """End an unfinished replay: its job, its publication, the generation that it was to bring, and its files.

    The live job is left as it is.  Whoever calls it holds the replay's lock.
    """
    env = settings.env
    if replay.attempt:
        services.flink.cancel(batch_job_id(env.name, replay.id, replay.attempt), timeout=timeout)
    if replay.task:
        # Rows that it published later would be there again.
        task = task_id(env.name, replay.id, replay.task)
        services.druid.cancel_task(task)
        over = lambda: services.druid.task_state(task) != "RUNNING" or Pending("still running")  # noqa: E731
        until(f"task {task}", over, timeout=timeout)
    if replay.handover is not None and not replay.asked.dry_run:
        drop_generation(replay, services, timeout=timeout)
    folder = local(replay_folder(env, replay.id))
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return services.replays.write(replay.but(status="abandoned", ended=now))


def drop_generation(replay: Replay, services: Services, *, timeout: float = 120) -> None:
    """Take away the generation that a replay was to bring: its job, of whatever declaration it is, and its topics."""
    stream = called(replay.pipeline, replay.generation)
    for job in services.flink.jobs():
        if job.name == job_name(stream) and (job.live or job.leaving):
            services.flink.cancel(job.id, timeout=timeout)
    for topic in services.kafka.topics(derived_topics(stream)):
        services.kafka.delete_topic(topic)
