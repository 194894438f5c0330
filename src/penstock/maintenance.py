"""Maintenance: what a pipeline needs now and then.  A plan that is printed and run, as `apply` has one.

compact    closed intervals of many segments, into few; live rows and replays go on beside it (concurrent locks)
keep rows  the retention rules that penstock.toml names
delete     savepoints and files of replays that nothing refers to, and that are old enough
report     what is dead-lettered, late and healed: nothing of it is changed
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, assert_never

from penstock.deadletters.letters import read_letters
from penstock.durations import millis, parse_duration
from penstock.errors import PenstockError
from penstock.generation import deployed
from penstock.lock import environment_lock
from penstock.pipeline import Pipeline
from penstock.replay.facts import live
from penstock.replay.record import Replay
from penstock.replay.repair import look as look_for_late
from penstock.replay.scope import utc, widened
from penstock.services.flink import local
from penstock.services.protocols import Services
from penstock.services.registry import Record
from penstock.settings import Environment, Settings
from penstock.tasks import run_task
from penstock.wait import Progress, Silent

#: Intervals of a datasource that are compacted in one run: the rest waits for the next.
MOST = 24


@dataclass(frozen=True)
class Compact:
    """`segments` ids are what makes the task's identity: what has not changed since is not compacted again."""

    kind: ClassVar[str] = "compact"
    datasource: str
    start: int
    end: int
    segments: tuple[str, ...]

    def __str__(self) -> str:
        return f"compact {self.datasource} {utc(self.start)} to {utc(self.end)}: {len(self.segments)} segments"


@dataclass(frozen=True)
class KeepRows:
    kind: ClassVar[str] = "rules"
    datasource: str
    rules: tuple[Mapping[str, Any], ...]
    text: str

    def __str__(self) -> str:
        return f"keep the rows of {self.datasource} for {self.text}"


@dataclass(frozen=True)
class Delete:
    kind: ClassVar[str] = "delete"
    folder: str
    what: str
    days: float

    def __str__(self) -> str:
        return f"delete {self.what} {self.folder}: nothing refers to it, {self.days:,.0f} days old"


Duty = Compact | KeepRows | Delete
KINDS = ("compact", "rules", "delete")


@dataclass(frozen=True)
class Account:
    """What a pipeline's derived topics hold.  `reasons` counts dead letters by the kind of fault."""

    pipeline: str
    dead_lettered: int
    reasons: Mapping[str, int]
    late: int
    healed: int

    def __str__(self) -> str:
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.reasons.items()))
        letters = f"{self.dead_lettered:,} dead-lettered" + (f" ({why})" if why else "")
        return f"{self.pipeline}: {letters}, {self.late:,} late, {self.late - self.healed:,} of them not healed"


def plan(pipelines: Sequence[Pipeline], services: Services, settings: Settings, now: float | None = None) -> list[Duty]:
    """Return what is due.  Changes nothing."""
    at = time.time() if now is None else now
    records, replays = services.registry.read(), services.replays.read()
    due: list[Duty] = []
    for pipeline in pipelines:
        if (record := records.get(pipeline.name)) is None or record.status in ("new", "removed"):
            continue
        due += _fragments(pipeline, record, replays.values(), services)
        due += _rules(pipeline.name, settings.env, services)
    return [*due, *_savepoints(settings, records.values(), replays.values(), at), *_replay_files(settings, replays, at)]


def maintain(
    duties: Iterable[Duty],
    services: Services,
    settings: Settings,
    *,
    progress: Progress | None = None,
    timeout: float = 600,
) -> list[str]:
    """Do what is due, in order, and return a line each.  What fails ends it; run again, it does what is left."""
    done = []
    for duty in duties:
        (progress or Silent()).update(str(duty))
        match duty:
            case Compact():
                identity = f"penstock_compact_{settings.env.name}_{duty.datasource}_{_digest(duty)}"
                # No replay publishes the same interval meanwhile: that holds the same lock.
                with environment_lock(settings, f"maintain {duty.datasource}"):
                    spec = compaction(duty)
                    run_task(services.druid, identity, spec, progress=progress, timeout=timeout)
            case KeepRows():
                services.druid.set_rules(duty.datasource, duty.rules)
            case Delete():
                shutil.rmtree(duty.folder)
            case _:
                assert_never(duty)
        done.append(str(duty))
    return done


def compaction(duty: Compact) -> dict[str, Any]:
    """Derive the task: columns, granularities and roll-up stay what the segments have."""
    return {
        "type": "compact",
        "dataSource": duty.datasource,
        "ioConfig": {
            "type": "compact",
            "inputSpec": {"type": "interval", "interval": f"{utc(duty.start)}/{utc(duty.end)}"},
        },
        "tuningConfig": {"type": "index_parallel", "maxNumConcurrentSubTasks": 1},
        # The supervisor and replays say so too: late rows of the interval may be appended meanwhile.
        "context": {"useConcurrentLocks": True},
    }


def report(pipelines: Sequence[Pipeline], services: Services) -> list[Account]:
    """Count the dead letters and late events of each applied pipeline."""
    records = services.registry.read()
    found = []
    for pipeline in pipelines:
        if pipeline.name not in records or records[pipeline.name].status in ("new", "removed"):
            continue
        late = look_for_late(pipeline, services)
        current = deployed(pipeline, records[pipeline.name])
        reasons = dict(Counter(letter.kind for letter in read_letters(current, services.kafka)))
        found.append(Account(pipeline.name, sum(reasons.values()), reasons, late.late, late.healed))
    return found


def to_json(duties: Sequence[Duty], accounts: Sequence[Account]) -> dict[str, Any]:
    return {
        "duties": [{"kind": duty.kind, "words": str(duty), **asdict(duty)} for duty in duties],
        "accounts": [asdict(account) for account in accounts],
    }


def _fragments(pipeline: Pipeline, record: Record, replays: Iterable[Replay], services: Services) -> list[Compact]:
    """Closed intervals only: those of which the live job writes no more rows, but for a pass-through's stragglers."""
    unfinished = [it for it in replays if it.pipeline == pipeline.name and it.status == "running"]
    watermark = live(pipeline, record, services).watermark
    found = []
    for (start, end), ids in services.druid.fragmented(pipeline.name).items():
        closes = widened(pipeline, start, end).closed_at
        still_open = watermark is None or watermark < (end if closes is None else closes)
        if still_open or any(it.overlaps(start, end) for it in unfinished):
            continue
        if services.druid.realtime_segments(pipeline.name, start, end):
            continue
        found.append(Compact(pipeline.name, start, end, ids))
    return found[:MOST]


def _digest(duty: Compact) -> str:
    return hashlib.sha256("\n".join(duty.segments).encode()).hexdigest()[:16]


def _rules(name: str, env: Environment, services: Services) -> list[KeepRows]:
    text = env.maintenance.rows.get(name)
    if text is None:
        return []
    seconds = millis(_duration(text)) // 1000
    period = f"PT{seconds}S" if seconds % 86_400 else f"P{seconds // 86_400}D"
    wanted: tuple[dict[str, Any], ...] = (
        {
            "type": "loadByPeriod",
            "period": period,
            "includeFuture": True,
            "tieredReplicants": {"_default_tier": max(1, env.druid.replicas)},
        },
        {"type": "dropForever"},
    )
    there = [
        {key: rule.get(key) for key in want} for want, rule in zip(wanted, services.druid.rules(name), strict=False)
    ]
    return [] if there == list(wanted) else [KeepRows(name, wanted, text)]


def _duration(text: str) -> Any:
    return parse_duration(text)


def _folder(uri: str) -> Path:
    found = local(uri)
    if found is None:
        raise PenstockError(
            f"{uri} is no directory of this machine", hint="flink.state must be a file: URI to be tidied"
        )
    return found


def _savepoints(settings: Settings, records: Iterable[Record], replays: Iterable[Replay], now: float) -> list[Delete]:
    """Savepoints that no record and no unfinished replay refers to; a recorded job's own are kept."""
    known = list(records)
    kept = {path for record in known for path in (record.savepoint, record.restore) if path}
    for it in replays:
        if it.status == "running":
            kept |= {path for path in (it.cut and it.cut.savepoint, it.settled and it.settled.path) if path}
    names = {Path(path.rstrip("/")).name for path in kept}
    jobs = tuple(f"savepoint-{record.job_id[:6]}-" for record in known if record.job_id)
    root = _folder(f"{settings.env.flink.state}/savepoints")
    least = millis(_duration(settings.env.maintenance.savepoints)) / 1000
    return [
        Delete(str(folder), "savepoint", age / 86_400)
        for folder in sorted(root.glob("*/savepoint-*"))
        if folder.name not in names
        and not folder.name.startswith(jobs)
        and (age := now - folder.stat().st_mtime) > least
    ]


def _replay_files(settings: Settings, replays: Mapping[str, Replay], now: float) -> list[Delete]:
    running = {name for name, it in replays.items() if it.status == "running"}
    root = _folder(f"{settings.env.flink.state}/replays/{settings.env.name}")
    least = millis(_duration(settings.env.maintenance.replay_files)) / 1000
    return [
        Delete(str(folder), "files of replay", age / 86_400)
        for folder in sorted(root.glob("*"))
        if folder.name not in running and (age := now - folder.stat().st_mtime) > least
    ]
