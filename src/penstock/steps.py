"""The steps of a plan: plain frozen data, printed and run from the same list.

`action` is create, change, delete, none or refused; `pipeline` is "*" for what several share; `reason` says why, in
words that stay the same while nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from penstock.errors import DeclarationError
from penstock.topics import TopicSpec

SHARED = "*"


@dataclass(frozen=True, kw_only=True)
class _Step:
    action: str
    kind: str
    pipeline: str
    subject: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Keep(_Step):
    """As declared.  `notable` where the reader should know something about it."""

    action: str = "none"
    notable: bool = False


@dataclass(frozen=True, kw_only=True)
class Refused(_Step):
    """Would lose or repeat data, or can't be done.  `flag` allows it by name; None where nothing does."""

    action: str = "refused"
    flag: str | None = None


@dataclass(frozen=True, kw_only=True)
class CreateTopic(_Step):
    action: str = "create"
    kind: str = "topic"
    topic: TopicSpec


@dataclass(frozen=True, kw_only=True)
class AlterTopicConfig(_Step):
    """Set `after`, settings that differ; any other setting of the topic is left alone."""

    action: str = "change"
    kind: str = "topic"
    before: Mapping[str, str | None]
    after: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class AddPartitions(_Step):
    action: str = "change"
    kind: str = "topic"
    before: int
    total: int


@dataclass(frozen=True, kw_only=True)
class RecreateTopic(_Step):
    """Delete the topic with its records and create it anew."""

    action: str = "change"
    kind: str = "topic"
    before: int
    topic: TopicSpec


@dataclass(frozen=True, kw_only=True)
class ChangeKey(_Step):
    """Note the topic's new key in the registry; records that are there keep their place."""

    action: str = "change"
    kind: str = "topic"
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class CreateSupervisor(_Step):
    action: str = "create"
    kind: str = "supervisor"
    digest: str


@dataclass(frozen=True, kw_only=True)
class UpdateSupervisor(_Step):
    action: str = "change"
    kind: str = "supervisor"
    digest: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ResetSupervisor(_Step):
    """Suspend it, its rows published, and forget its offsets: the topic it reads starts over."""

    action: str = "change"
    kind: str = "supervisor"


@dataclass(frozen=True, kw_only=True)
class ResumeSupervisor(_Step):
    action: str = "change"
    kind: str = "supervisor"


@dataclass(frozen=True, kw_only=True)
class StopJob(_Step):
    """Stop the job with a savepoint, if it runs, and note what is to start in its place.

    `resume` is whether the next job goes on from that savepoint; if not, it begins at `startup`.
    """

    action: str = "change"
    kind: str = "job"
    version: str
    run: int
    resume: bool
    startup: str
    recreates: bool = False


@dataclass(frozen=True, kw_only=True)
class StartJob(_Step):
    """Start `version` from `restore` or `startup`; `after_stop`: from what this plan's StopJob leaves.

    `run` numbers the pipeline's starts; the same start, repeated, keeps its number.
    """

    action: str = "create"
    kind: str = "job"
    version: str
    run: int
    restore: str | None = None
    startup: str = "earliest-offset"
    after_stop: bool = False


@dataclass(frozen=True, kw_only=True)
class AdoptJob(_Step):
    """The job is there, and not yet noted as running."""

    action: str = "change"
    kind: str = "job"
    job_id: str


@dataclass(frozen=True, kw_only=True)
class RemovePipeline(_Step):
    """Stop the job with a savepoint, terminate the supervisor, drop the datasource; topics are kept."""

    action: str = "delete"
    kind: str = "datasource"


Step = (
    Keep
    | Refused
    | CreateTopic
    | AlterTopicConfig
    | AddPartitions
    | RecreateTopic
    | ChangeKey
    | CreateSupervisor
    | UpdateSupervisor
    | ResetSupervisor
    | ResumeSupervisor
    | StopJob
    | StartJob
    | AdoptJob
    | RemovePipeline
)

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in Step.__args__}

#: The order in which steps run: nothing is made before what it stands on, nothing is recreated under a running reader.
PHASES: dict[type[Any], int] = {
    RemovePipeline: 0,
    ResetSupervisor: 2,
    RecreateTopic: 3,
    CreateTopic: 3,
    AddPartitions: 4,
    AlterTopicConfig: 5,
    ChangeKey: 6,
    CreateSupervisor: 7,
    UpdateSupervisor: 7,
    ResumeSupervisor: 8,
    StartJob: 10,
    AdoptJob: 11,
}


def phase(step: Step) -> int:
    """Return when the step runs.  A job is stopped as late as possible, unless a topic is recreated under it."""
    if isinstance(step, StopJob):
        return 1 if step.recreates else 9
    return PHASES.get(type(step), 12)


#: What a step does where its action alone does not say it.
VERBS: dict[type[Any], str] = {
    StopJob: "stop",
    StartJob: "start",
    AdoptJob: "note",
    RecreateTopic: "recreate",
    ResetSupervisor: "reset",
    ResumeSupervisor: "resume",
    RemovePipeline: "remove",
}


def describe(step: Step) -> str:
    """Return a step in a few words: "create topic flights.departed.v1"."""
    return f"{VERBS.get(type(step), step.action)} {step.kind} {step.subject}"


@dataclass(frozen=True)
class Plan:
    """What `apply` would do in `env`, in order.  `fingerprint` changes with the steps and what was applied before."""

    env: str
    allow: tuple[str, ...]
    fingerprint: str
    steps: tuple[Step, ...] = field(default=())

    @property
    def changes(self) -> list[Step]:
        """Return the steps that do something."""
        return [step for step in self.steps if step.action not in ("none", "refused")]

    @property
    def refused(self) -> list[Refused]:
        return [step for step in self.steps if isinstance(step, Refused)]

    def count(self, action: str) -> int:
        return sum(1 for step in self.steps if step.action == action)


def step_to_json(step: Step) -> dict[str, Any]:
    return {"step": type(step).__name__, **asdict(step)}


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON data; `plan_from_json` reads it back, equal."""
    return {
        "env": plan.env,
        "allow": list(plan.allow),
        "fingerprint": plan.fingerprint,
        "summary": {action: plan.count(action) for action in ("create", "change", "delete", "none", "refused")},
        "steps": [step_to_json(step) for step in plan.steps],
    }


def plan_from_json(table: Any) -> Plan:
    """Read a plan back.  Raises DeclarationError for what is no plan."""
    try:
        steps = tuple(_step_from_json(item) for item in table["steps"])
        return Plan(str(table["env"]), tuple(table["allow"]), str(table["fingerprint"]), steps)
    except (KeyError, TypeError) as error:
        message = f"this is no plan: {type(error).__name__}: {error}"
        raise DeclarationError(message, hint="make one: penstock plan --json > plan.json") from None


def _step_from_json(item: Mapping[str, Any]) -> Step:
    kind = _KINDS[item["step"]]
    values = {part.name: item[part.name] for part in fields(kind)}
    if "topic" in values:
        values["topic"] = TopicSpec(**values["topic"])
    if "changes" in values:
        values["changes"] = tuple(values["changes"])
    return kind(**values)  # type: ignore[no-any-return]
