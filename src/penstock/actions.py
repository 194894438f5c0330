"""What `apply`, `stop`, `start` and `remove` do to the services.  Each writes down its intent before it acts.

Whatever dies between two lines here, the registry says what was under way and the next plan goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from penstock.druid import supervisor_spec
from penstock.errors import PenstockError
from penstock.flink.spec import EARLIEST, job_spec
from penstock.generation import streams, to_json
from penstock.observe import savepoint_dir
from penstock.pipeline import Pipeline
from penstock.plan import LOGS, digest, public, stamped
from penstock.plan_job import settings_digest
from penstock.services.flink import RestorePoint
from penstock.services.protocols import Services
from penstock.services.registry import Record
from penstock.settings import Settings
from penstock.steps import StartJob, StopJob
from penstock.topics import TopicSpec, consumer_group, derived_topics
from penstock.wait import Pending, Progress, Silent, until


@dataclass
class Site:
    """Where the actions act: services, settings, declarations by name, and the registry's records as they are now."""

    services: Services
    settings: Settings
    pipelines: Mapping[str, Pipeline]
    records: dict[str, Record]
    progress: Progress = field(default_factory=Silent)
    timeout: float = 120

    def save(self, record: Record) -> Record:
        """Write the record to the registry, and remember it."""
        self.records[record.pipeline] = self.services.registry.write(record)
        return self.records[record.pipeline]

    def record(self, name: str) -> Record:
        return self.records.get(name) or Record(name)


def recreate_topic(site: Site, topic: TopicSpec) -> None:
    site.services.kafka.delete_topic(topic.name)
    site.services.kafka.create_topic(topic)


def note_key(site: Site, topic: str, key: str | None) -> None:
    """Note a source's new key for every pipeline that reads it."""
    for record in list(site.records.values()):
        if record.source == topic and record.key != key:
            site.save(record.but(key=key))


def post_supervisor(site: Site, name: str) -> None:
    """Note the supervisor's spec, then post it, stamped: Druid never has one that the registry does not know of.

    A removed pipeline's record keeps its status until its job is started, since its savepoint decides how.
    """
    pipeline = site.pipelines[name]
    spec = supervisor_spec(pipeline, site.settings.env)
    site.save(_declared(site.record(name), pipeline).but(supervisor=digest(spec), spec=public(spec)))
    site.services.druid.post_supervisor(stamped(spec))


def _declared(record: Record, pipeline: Pipeline) -> Record:
    source = pipeline.source
    return record.but(source=source.name, key=source.key, partitions=source.partitions)


def reset_supervisor(site: Site, name: str) -> None:
    """Suspend the supervisor, its rows published, and forget its offsets: safe to repeat until it is resumed."""
    site.services.druid.suspend(name, timeout=site.timeout, progress=site.progress)
    site.services.druid.reset(name)


def stop_job(site: Site, step: StopJob) -> None:
    """Stop the job that is to be replaced, and note the next one: from here on the old one is never resumed."""
    record = site.record(step.pipeline)
    pipeline, env = site.pipelines[step.pipeline], site.settings.env
    job = site.services.flink.job(record.job_id) if record.job_id else None
    restore = None
    if job is not None and (job.live or job.leaving):
        savepoint = site.services.flink.stop_with_savepoint(
            job.id, savepoint_dir(env, step.pipeline), timeout=site.timeout, progress=site.progress
        )
        restore = savepoint if step.resume else None
    spec = job_spec(pipeline, env, restore=restore, startup=step.startup, run=step.run)
    site.save(
        record.but(
            status="starting",
            version=spec.version,
            run=step.run,
            job_id=spec.job_id,
            restore=restore,
            startup=step.startup,
            savepoint=None,
            settings=settings_digest(pipeline, env),
        )
    )


def start_jobs(site: Site, steps: Sequence[StartJob]) -> None:
    """Note and submit all jobs together: one planner process compiles them.  They are not awaited here."""
    specs = []
    for step in steps:
        pipeline, env = site.pipelines[step.pipeline], site.settings.env
        record = site.record(step.pipeline)
        restore = record.restore if step.after_stop else step.restore
        startup = record.startup if step.after_stop else step.startup
        spec = job_spec(pipeline, env, restore=restore, startup=startup, run=step.run)
        specs.append(spec)
        if restore is None and startup == EARLIEST:
            # What an earlier life of the pipeline has committed must not be taken for what this one has read.
            site.services.kafka.reset_group(consumer_group(env.name, pipeline.stream), pipeline.source.name)
        site.save(
            _declared(record, pipeline).but(
                status="starting",
                version=spec.version,
                run=step.run,
                job_id=spec.job_id,
                restore=restore,
                startup=startup,
                savepoint=None,
                settings=settings_digest(pipeline, env),
                declared=to_json(pipeline),
            )
        )
    site.services.submit(site.settings, specs, site.progress)


def adopt_job(site: Site, name: str, job_id: str) -> None:
    """Note a job that is there already."""
    pipeline, env = site.pipelines[name], site.settings.env
    spec = job_spec(pipeline, env)
    record = site.record(name)
    if not record.job_id:  # only the very first start can be there without a record
        record = record.but(version=spec.version, job_id=job_id, settings=settings_digest(pipeline, env))
    site.save(_declared(record, pipeline).but(status="starting", declared=to_json(pipeline)))


def await_job(site: Site, name: str) -> None:
    """Wait until every task of the recorded job runs, and note that.  Raises PenstockError where it fails."""
    record = site.record(name)
    flink = site.services.flink

    def probe() -> bool | Pending:
        job = flink.job(record.job_id)
        if job is None:
            return Pending("not known to Flink yet")
        if job.running:
            return True
        reason = flink.root_exception(job.id)
        if not (job.live or job.leaving):
            raise PenstockError(
                f"{name}: its job {job.id} is {job.state}: {reason or 'Flink gives no reason'}",
                hint="put the cause right, then `penstock apply` starts it again",
            )
        tasks = f"{job.state}, {job.running_tasks} of {job.total_tasks} tasks run"
        return Pending(f"{tasks}; last failure: {reason}" if reason else tasks)

    hint = "has the TaskManager free slots?  `penstock status` and Flink's own page show them"
    until(f"{name}: its job", probe, timeout=site.timeout, progress=site.progress, hint=hint)
    site.save(record.but(status="running"))


def await_supervisor(site: Site, name: str) -> None:
    """Wait until the supervisor is RUNNING and healthy."""

    def probe() -> bool | Pending:
        there = site.services.druid.supervisors().get(name)
        if there is None:
            return Pending("not there yet")
        if there.running:
            return True
        problem = None if there.healthy else site.services.druid.problem(name)
        state = there.detailed_state or there.state
        return Pending(f"{state}: {problem}" if problem else state)

    hint = f"Druid's logs say more: {LOGS}"
    until(f"{name}: its supervisor", probe, timeout=site.timeout, progress=site.progress, hint=hint)


def remove_pipeline(site: Site, name: str, *, delete_topics: bool = False, drop_datasource: bool = False) -> list[str]:
    """Stop the job with a savepoint, terminate the supervisor; data goes only where named.  Return what was done."""
    services = site.services
    record = site.save(site.record(name).but(status="removing"))
    done = []
    if record.job_id and record.savepoint is None:
        record = site.save(ended(record, end_job(site, record)))
        done.append(f"job stopped, {record.savepoint}" if record.savepoint else "job stopped, without state to keep")
    if name in services.druid.supervisors():
        if delete_topics or drop_datasource:
            # What Druid has read is no longer there, or no longer counts: a later supervisor reads from the start.
            reset_supervisor(site, name)
        services.druid.terminate(name, timeout=site.timeout, progress=site.progress)
        done.append("supervisor terminated, its rows published")
    if drop_datasource:
        services.druid.drop_datasource(name, timeout=site.timeout, progress=site.progress)
        done.append(f"datasource {name} dropped, its rows and files deleted")
    if delete_topics:
        every = streams(name, record.launch.get("generation", 0))
        topics = services.kafka.topics([topic for stream in every for topic in derived_topics(stream)])
        for topic in topics:
            services.kafka.delete_topic(topic)
        done.append(f"topics deleted: {', '.join(topics) or 'none were there'}")
    record = record.but(status="removed", supervisor="", spec={})
    if delete_topics and drop_datasource:
        # Nothing is left to come back to: the next start is from scratch.  Its number must still be a new one.
        record = Record(name, status="removed", run=record.run)
    site.save(record)
    kept = [text for gone, text in ((delete_topics, "topics"), (drop_datasource, "rows in Druid")) if not gone]
    return [*done, f"kept: {', '.join([*kept, 'the source topic'])}"]


def end_job(site: Site, record: Record, *, cancel: bool = False) -> RestorePoint:
    """End the recorded job and return where it can be resumed.  A job that has ended is success.

    With `cancel` no savepoint is taken: its last checkpoint is what is left.
    """
    flink, folder = site.services.flink, savepoint_dir(site.settings.env, record.pipeline)
    job = flink.job(record.job_id)
    if job is not None and (job.live or job.leaving):
        if not cancel:
            path = flink.stop_with_savepoint(job.id, folder, timeout=site.timeout, progress=site.progress)
            return RestorePoint(path)
        flink.cancel(job.id)
    return flink.restore_point(record.job_id, folder)


def ended(record: Record, point: RestorePoint) -> Record:
    """Return the record of an ended job.  One that never completed a checkpoint has done nothing: its start is due."""
    return record.but(savepoint=point.path, job_id="" if point.never else record.job_id)
