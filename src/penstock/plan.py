"""5. Plan: the steps from what is observed to what is declared.  Pure: no I/O, no clock; the same in, the same out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.druid import supervisor_spec
from penstock.durations import format_duration
from penstock.errors import DeclarationError
from penstock.generation import deployed
from penstock.observe import Observed
from penstock.pipeline import Pipeline
from penstock.plan_job import job_steps
from penstock.settings import Environment
from penstock.steps import (
    SHARED,
    AddPartitions,
    AlterTopicConfig,
    ChangeKey,
    CreateSupervisor,
    CreateTopic,
    Keep,
    Plan,
    RecreateTopic,
    Refused,
    RemovePipeline,
    ResetSupervisor,
    ResumeSupervisor,
    Step,
    UpdateSupervisor,
    phase,
)
from penstock.topics import TopicSpec, out_topic, registry_topic, topic_specs

if TYPE_CHECKING:
    from penstock.services.kafka import TopicState

#: What can be allowed by name, and what it costs.  `NAME:pipeline` allows it for one pipeline only.
FLAGS = {
    "fewer-partitions": "makes the topic anew: its records are deleted, its jobs lose their state; rows in Druid stay",
    "shorter-retention": "Kafka deletes the records that the new retention no longer keeps",
    "repartition": "adds partitions to a keyed topic: a key's new records go to another partition than its old ones",
    "changed-key": "notes the new key: records that are there keep the partition of the old one",
    "drop-datasource": "removes pipelines that are no longer declared: job, supervisor and the rows in Druid",
    "stateless-restart": "starts the job at its group's offsets without its state: windows open now are cut short",
    "older-state": "resumes from a state older than a replay: what fires again counts twice until it is replayed again",
}

#: Supervisors run in the coordinator's process, their tasks in the indexer's.
LOGS = "`penstock logs druid-coordinator`, `penstock logs druid-indexer`"

#: Where a spec's context says which declaration it was made from.  Druid gives the context back as it was sent, while
#: the rest of a spec comes back rewritten and full of defaults.
STAMP = "penstock"


def parse_allow(values: Iterable[str], flags: Mapping[str, str] = FLAGS) -> frozenset[str]:
    """Return the flags given, checked.  Raises DeclarationError for unknown names, listing what there is."""
    given = frozenset(values)
    unknown = sorted(value for value in given if value.partition(":")[0] not in flags)
    if unknown:
        known = "\n  ".join(f"{name}: {cost}" for name, cost in flags.items())
        raise DeclarationError([f"--allow {value}: no such flag" for value in unknown], hint=f"there are:\n  {known}")
    return given


def plan(
    declared: Sequence[Pipeline], observed: Observed, env: Environment, allow: Collection[str] = frozenset()
) -> Plan:
    """Return the steps that make `env` what is declared, in the order in which they run."""
    declared = [deployed(pipeline, observed.records.get(pipeline.name)) for pipeline in declared]
    topics = _topics(declared, observed, env, allow)
    made = {step.subject for step in topics if isinstance(step, (CreateTopic, RecreateTopic))}
    deleted = {step.subject for step in topics if isinstance(step, RecreateTopic)}
    steps: list[Step] = [*_undeclared(declared, observed, allow), *topics]
    for pipeline in declared:
        if pipeline.name in observed.upgrades:
            steps.append(_upgrading(pipeline.name, observed.upgrades[pipeline.name]))
            continue
        steps += _supervisor(pipeline, observed, env, anew=out_topic(pipeline.stream) in made)
        roles = {spec.role for spec in topic_specs(pipeline, env) if spec.name in deleted}
        steps += job_steps(pipeline, observed, env, allow, recreated=roles)
    ordered = tuple(sorted(steps, key=phase))
    return Plan(env.name, tuple(sorted(allow)), _fingerprint(env, allow, observed, ordered), ordered)


def _upgrading(name: str, replay: str) -> Step:
    finish, give_up = f"`penstock upgrade {name}` finishes it", f"`penstock replays --abandon {replay}` gives it up"
    reason = f"an upgrade is under way: {finish}, {give_up}"
    return Refused(kind="job", pipeline=name, subject=f"penstock.{name}", reason=reason)


def stamped(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec as it is posted: with the digest of itself in its context."""
    return {**spec, "context": {**spec.get("context", {}), STAMP: digest(spec)}}


def digest(value: Any) -> str:
    """Return 12 hex digits of any JSON data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def public(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec without the values of client properties, which may be secrets."""
    copy: dict[str, Any] = json.loads(json.dumps(spec))
    properties = copy["spec"]["ioConfig"]["consumerProperties"]
    for name in properties:
        if name not in ("bootstrap.servers", "isolation.level"):
            properties[name] = "***"
    return copy


def _fingerprint(env: Environment, allow: Collection[str], observed: Observed, steps: Sequence[Step]) -> str:
    """Hash what would be done and what was applied before; what only varies (health, lag) is left out."""
    acting = [
        [type(step).__name__, step.subject] if isinstance(step, Keep) else [type(step).__name__, asdict(step)]
        for step in steps
    ]
    records = {name: asdict(record) for name, record in observed.records.items()}
    return digest([env.name, sorted(allow), acting, records])


def _undeclared(declared: Sequence[Pipeline], observed: Observed, allow: Collection[str]) -> list[Step]:
    names = {pipeline.name for pipeline in declared}
    steps: list[Step] = []
    for name, record in sorted(observed.records.items()):
        if name in names or record.status == "removed":
            continue
        about: dict[str, Any] = {"kind": "datasource", "pipeline": name, "subject": name}
        if _allowed("drop-datasource", name, allow):
            reason = "no longer declared: its job, supervisor and rows in Druid go; its topics are kept"
            steps.append(RemovePipeline(**about, reason=reason))
        else:
            reason = f"was applied and is no longer declared; `penstock remove {name}` takes it away and keeps its data"
            steps.append(Refused(**about, flag="drop-datasource", reason=reason))
    return steps


def _allowed(flag: str, pipeline: str, allow: Collection[str]) -> bool:
    return flag in allow or f"{flag}:{pipeline}" in allow


def _topics(declared: Sequence[Pipeline], observed: Observed, env: Environment, allow: Collection[str]) -> list[Step]:
    users: dict[str, list[Pipeline]] = {}
    specs: dict[str, TopicSpec] = {}
    for pipeline in declared:
        for spec in topic_specs(pipeline, env):
            users.setdefault(spec.name, []).append(pipeline)
            specs[spec.name] = spec
    registry = registry_topic(env)
    steps = _topic(registry, [], observed.topics.get(registry.name), allow)
    for name, spec in specs.items():
        steps += _topic(spec, users[name], observed.topics.get(name), allow)
        steps += _key(spec, users[name], observed, allow)
    return steps


def _about_topic(spec: TopicSpec, users: Sequence[Pipeline]) -> dict[str, Any]:
    return {"kind": "topic", "pipeline": users[0].name if len(users) == 1 else SHARED, "subject": spec.name}


def _topic(spec: TopicSpec, users: Sequence[Pipeline], state: TopicState | None, allow: Collection[str]) -> list[Step]:
    about = _about_topic(spec, users)
    if spec.external:
        return [_external(spec, state, about)]
    if state is None:
        return [CreateTopic(**about, topic=spec, reason=_described(spec, users))]
    allowed = {flag for flag in FLAGS if users and all(_allowed(flag, user.name, allow) for user in users)}
    if state.partitions > spec.partitions and "fewer-partitions" in allowed:
        reason = f"{state.partitions} partitions -> {spec.partitions}: its records are deleted"
        return [RecreateTopic(**about, before=state.partitions, topic=spec, reason=reason)]
    steps = [*_partitions(spec, state, about, allowed), *_config(spec, state, about, allowed)]
    return steps or [Keep(**about, reason=_described(spec, users))]


def _partitions(spec: TopicSpec, state: TopicState, about: Mapping[str, Any], allowed: Collection[str]) -> list[Step]:
    change = f"{state.partitions} partitions -> {spec.partitions}"
    steps: list[Step] = []
    if state.partitions > spec.partitions:
        reason = f"{change}: Kafka takes none away; making it anew deletes its records"
        steps.append(Refused(**about, flag="fewer-partitions", reason=reason))
    elif state.partitions < spec.partitions and spec.key is not None and "repartition" not in allowed:
        reason = f"{change}: it is keyed by {spec.key}; a key's new records would go to another partition"
        steps.append(Refused(**about, flag="repartition", reason=reason))
    elif state.partitions < spec.partitions:
        steps.append(AddPartitions(**about, before=state.partitions, total=spec.partitions, reason=change))
    if state.replication != spec.replication:
        reason = (
            f"replication {state.replication}, {spec.replication} is configured: only moving replicas changes it "
            "(kafka-reassign-partitions), or set kafka.replication in penstock.toml"
        )
        steps.append(Refused(**about, reason=reason))
    return steps


def _config(spec: TopicSpec, state: TopicState, about: Mapping[str, Any], allowed: Collection[str]) -> list[Step]:
    """Return what to set; settings that the declaration does not decide are left alone."""
    after = {key: value for key, value in spec.config.items() if state.config.get(key) != value}
    if not after:
        return []
    before = {key: state.config.get(key) for key in after}
    reason = ", ".join(f"{key} {before[key] or 'unset'} -> {value}" for key, value in after.items())
    kept = before.get("retention.ms")
    if (
        kept is not None
        and (int(kept) < 0 or int(after["retention.ms"]) < int(kept))
        and "shorter-retention" not in allowed
    ):
        return [Refused(**about, flag="shorter-retention", reason=f"{reason}: {FLAGS['shorter-retention']}")]
    return [AlterTopicConfig(**about, before=before, after=after, reason=reason)]


def _external(spec: TopicSpec, state: TopicState | None, about: Mapping[str, Any]) -> Step:
    if state is None:
        return Refused(**about, reason="external, and not there: its owner makes it, with what the declaration says")
    if state.partitions < spec.partitions:
        reason = f"external, with {state.partitions} partitions of {spec.partitions} declared: correct the declaration"
        return Refused(**about, reason=reason)
    return Keep(**about, reason=f"external, {state.partitions} partitions: checked, never changed")


def _described(spec: TopicSpec, users: Sequence[Pipeline]) -> str:
    parts = [f"{spec.partitions} partition{'s' * (spec.partitions != 1)}", f"replication {spec.replication}"]
    if spec.config.get("cleanup.policy") == "compact":
        parts.append("compacted")
    elif users:
        parts.append(f"kept {format_duration(users[0].source.retention)}")  # type: ignore[arg-type]
    if spec.key is not None:
        parts.append(f"keyed by {spec.key}")
    return ", ".join(parts)


def _key(spec: TopicSpec, users: Sequence[Pipeline], observed: Observed, allow: Collection[str]) -> list[Step]:
    if spec.role != "source":
        return []
    noted = [observed.records[user.name] for user in users if user.name in observed.records]
    old = [record for record in noted if record.source == spec.name and record.key != spec.key]
    if not old:
        return []
    about = _about_topic(spec, users)
    change = f"key {old[0].key or 'none'} -> {spec.key or 'none'}"
    if all(_allowed("changed-key", record.pipeline, allow) for record in old):
        return [ChangeKey(**about, before=old[0].key, after=spec.key, reason=f"{change} (--allow changed-key)")]
    return [Refused(**about, flag="changed-key", reason=f"{change}: {FLAGS['changed-key']}")]


def _supervisor(pipeline: Pipeline, observed: Observed, env: Environment, *, anew: bool) -> list[Step]:
    """Return the supervisor's steps; `anew` where the topic that it reads starts over, so its offsets must too."""
    spec = supervisor_spec(pipeline, env)
    want = digest(spec)
    there = observed.supervisors.get(pipeline.name)
    about: dict[str, Any] = {"kind": "supervisor", "pipeline": pipeline.name, "subject": pipeline.name}
    if there is None:
        return [CreateSupervisor(**about, digest=want, reason=f"{out_topic(pipeline.stream)} into {pipeline.name}")]
    steps: list[Step] = []
    if anew:
        steps.append(ResetSupervisor(**about, reason=f"{out_topic(pipeline.stream)} starts over: so do its offsets"))
    if there.context.get(STAMP) != want:
        record = observed.records.get(pipeline.name)
        changes = tuple(_differences(record.spec if record else {}, public(spec)))
        reason = "; ".join(changes) or "Druid's spec is not the one that was applied"
        return [*steps, UpdateSupervisor(**about, digest=want, changes=changes, reason=reason)]
    if there.suspended or anew:
        reason = "suspended" if there.suspended else "goes on with the new topic"
        return [*steps, ResumeSupervisor(**about, reason=reason)]
    if there.running:
        return [Keep(**about, reason=f"{out_topic(pipeline.stream)} into {pipeline.name}")]
    state = there.detailed_state or there.state
    why = observed.problems.get(pipeline.name, f"see the logs of Druid ({LOGS})")
    return [Keep(**about, notable=True, reason=f"as declared, but {state}: {why}")]


def _differences(before: Any, after: Any, path: str = "") -> Iterable[str]:
    if not before:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{path}.{key}" if path else str(key)
            if key not in before or key not in after:
                yield f"{inner} {'added' if key in after else 'removed'}"
            else:
                yield from _differences(before[key], after[key], inner)
    elif before != after:
        yield f"{path.removeprefix('spec.')} {_change(before, after)}"


def _change(before: Any, after: Any) -> str:
    """Say what differs: of lists of named things their names, of anything long only that it does."""
    if isinstance(before, list) and isinstance(after, list):
        old, new = (
            [str(item.get("name", item)) if isinstance(item, dict) else str(item) for item in part]
            for part in (before, after)
        )
        parts = [f"+{name}" for name in new if name not in old] + [f"-{name}" for name in old if name not in new]
        return " ".join(parts) or "changed"
    short = [json.dumps(value) for value in (before, after)]
    return " -> ".join(short) if max(map(len, short)) <= 60 else "changed"
