"""The plan: every rule, with and without its flag; pure, and the same as text, JSON and Markdown."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from penstock import render
from penstock.errors import DeclarationError
from penstock.plan import FLAGS, parse_allow, plan
from penstock.services.flink import RestorePoint
from penstock.settings import InsideSettings
from penstock.stack.parts import part_named
from penstock.steps import (
    AddPartitions,
    AlterTopicConfig,
    ChangeKey,
    CreateTopic,
    Keep,
    Plan,
    RecreateTopic,
    Refused,
    RemovePipeline,
    ResetSupervisor,
    ResumeSupervisor,
    StartJob,
    StopJob,
    UpdateSupervisor,
    plan_from_json,
    plan_to_json,
)
from penstock.topics import TopicSpec
from tests.conftest import Golden
from tests.unit.memory import World, raw, topic, windowed

HERE = Path(__file__).parents[1]

#: Versions and fingerprints have golden files of their own.
HASH = re.compile(r"\b[0-9a-f]{12}\b")


def only(made: Plan, kind: type[Any]) -> Any:
    found = [step for step in made.steps if isinstance(step, kind)]
    assert len(found) == 1, render.markdown(made)
    return found[0]


def kinds(made: Plan) -> list[str]:
    return [type(step).__name__ for step in made.changes]


def text(made: Plan) -> str:
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(render.text(made))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def test_the_first_plan_makes_everything_in_order(world: World) -> None:
    made = world.plan([windowed(), raw()])
    assert kinds(made) == ["CreateTopic"] * 8 + ["CreateSupervisor"] * 2 + ["StartJob"] * 2
    names = [step.subject for step in made.changes if isinstance(step, CreateTopic)]
    assert names.count("shop.sold.v1") == 1, "a shared source appears once"
    assert {step.startup for step in made.changes if isinstance(step, StartJob)} == {"earliest-offset"}
    assert next(step for step in made.steps if step.subject == "shop.sold.v1").pipeline == "*"


def test_plan_changes_nothing_and_is_repeatable(world: World) -> None:
    first = world.plan([windowed()])
    assert world.plan([windowed()]) == first
    assert world.kafka.calls == []
    assert world.flink.specs == []


def test_a_plan_survives_json(world: World) -> None:
    world.apply([windowed(), raw()])
    world.flink.end("penstock.sales", point=RestorePoint("memory:/chk-1"))
    fewer = topic(partitions=2, key="at", retention="60 d")
    for made in (
        world.plan([windowed()]),
        world.plan([windowed(fewer)], *FLAGS),
        World(world.settings.root).plan([windowed(), raw()]),
    ):
        assert plan_from_json(json.loads(json.dumps(plan_to_json(made)))) == made


@pytest.mark.parametrize("table", [None, [], {}, {"steps": [{"step": "Nope"}]}, {"steps": [{"step": "Keep"}]}])
def test_what_is_no_plan_is_said_to_be_none(table: Any) -> None:
    with pytest.raises(DeclarationError, match="no plan"):
        plan_from_json(table)


def test_unknown_flags_are_all_named() -> None:
    with pytest.raises(DeclarationError) as caught:
        parse_allow(["statless", "repartition", "x:sales", "repartition:sales"])
    assert caught.value.problems == ["--allow statless: no such flag", "--allow x:sales: no such flag"]
    assert all(flag in (caught.value.hint or "") for flag in FLAGS)


# Topics.


def test_other_settings_of_a_topic_are_left_alone_and_ours_are_put_right(world: World) -> None:
    world.apply([windowed()])
    world.kafka.alter_config("shop.sold.v1", {"compression.type": "zstd", "max.message.bytes": "7"})
    step = only(world.plan([windowed()]), AlterTopicConfig)
    assert step.before == {"max.message.bytes": "7"}
    assert set(step.after) == {"max.message.bytes"}
    world.apply([windowed()])
    assert world.kafka.topics(["shop.sold.v1"])["shop.sold.v1"].config["compression.type"] == "zstd"


def test_shorter_retention_is_refused_and_longer_is_not(world: World) -> None:
    world.apply([windowed()])
    assert {type(step) for step in world.plan([windowed(topic(retention="60 d"))]).changes} == {AlterTopicConfig}
    shorter = [windowed(topic(retention="1 d"))]
    assert [step.flag for step in world.plan(shorter).refused] == ["shorter-retention"] * 4
    assert not world.plan(shorter, "shorter-retention:sales").refused
    world.kafka.alter_config("shop.sold.v1", {"retention.ms": "-1"})
    assert only(world.plan([windowed()]), Refused).flag == "shorter-retention", "-1 keeps for ever"


def test_fewer_partitions(world: World) -> None:
    world.apply([windowed(), raw()])
    fewer = topic(partitions=2)
    declared = [windowed(fewer), raw(fewer)]
    refused = world.plan(declared).refused
    assert {step.flag for step in refused} == {"fewer-partitions"}
    assert len(refused) == 7
    one = world.plan(declared, "fewer-partitions:sales")
    assert "shop.sold.v1" in {step.subject for step in one.refused}, "the source is not only that pipeline's"
    made = world.plan(declared, "fewer-partitions")
    assert not made.refused
    assert kinds(made)[:5] == ["StopJob", "StopJob", "ResetSupervisor", "ResetSupervisor", "RecreateTopic"]
    assert kinds(made)[-2:] == ["StartJob", "StartJob"]
    starts = [step for step in made.changes if isinstance(step, StartJob)]
    assert {(step.restore, step.startup) for step in starts} == {(None, "earliest-offset")}


def test_a_result_topic_made_anew_does_not_repeat_the_source(world: World) -> None:
    world.apply([windowed()])
    late = world.kafka.topics(["penstock.sales.late"])["penstock.sales.late"]
    world.kafka._states["penstock.sales.late"] = replace(late, partitions=9)
    made = world.plan([windowed()], "fewer-partitions")
    assert only(made, RecreateTopic).subject == "penstock.sales.late"
    assert only(made, StartJob).startup == "group-offsets"
    assert not [step for step in made.steps if isinstance(step, ResetSupervisor)], "Druid does not read that one"


def test_more_partitions(world: World) -> None:
    world.apply([windowed()])
    more = [windowed(topic(partitions=8))]
    refused = only(world.plan(more), Refused)
    assert (refused.subject, refused.flag) == ("shop.sold.v1", "repartition")
    made = world.plan(more, "repartition")
    assert [step.total for step in made.changes if isinstance(step, AddPartitions)] == [8] * 4
    assert not [step for step in made.changes if isinstance(step, StopJob)], "a job finds new partitions by itself"


def test_more_partitions_of_a_topic_without_a_key_need_no_flag(world: World) -> None:
    world.apply([windowed(topic(key=None))])
    assert not world.plan([windowed(topic(key=None, partitions=8))]).refused


def test_other_replication_is_explained(world: World) -> None:
    world.apply([windowed()])
    world.kafka._states["shop.sold.v1"] = replace(world.kafka._states["shop.sold.v1"], replication=3)
    refused = only(world.plan([windowed()], *FLAGS), Refused)
    assert refused.flag is None
    assert "kafka.replication" in refused.reason


def test_a_changed_key(world: World) -> None:
    # The key is no part of an Aggregate's job.
    world.apply([windowed()])
    declared = [windowed(topic(key="at"))]
    assert only(world.plan(declared), Refused).flag == "changed-key"
    made = world.plan(declared, "changed-key")
    assert (only(made, ChangeKey).before, only(made, ChangeKey).after) == ("id", "at")
    world.apply(declared, "changed-key")
    assert not world.plan(declared).changes


def test_an_external_topic_is_checked_and_never_changed(world: World) -> None:
    external = [windowed(topic(external=True))]
    assert "not there" in only(world.plan(external, *FLAGS), Refused).reason
    world.kafka.create_topic(TopicSpec("shop.sold.v1", 2, 3, {"retention.ms": "5"}))
    assert "2 partitions of 4" in only(world.plan(external, *FLAGS), Refused).reason
    world.kafka.add_partitions("shop.sold.v1", 6)
    world.kafka.calls.clear()
    world.apply(external)
    assert "shop.sold.v1" not in {name for _, name in world.kafka.calls}
    assert world.kafka.topics(["shop.sold.v1"])["shop.sold.v1"].config == {"retention.ms": "5"}


# Supervisors.


def test_a_suspended_supervisor_is_resumed(world: World) -> None:
    world.apply([windowed()])
    world.druid.suspend("sales")
    assert kinds(world.plan([windowed()])) == ["ResumeSupervisor"]
    world.apply([windowed()])
    assert not world.plan([windowed()]).changes


def test_a_terminated_supervisor_is_made_again(world: World) -> None:
    world.apply([windowed()])
    world.druid.terminate("sales")
    assert kinds(world.plan([windowed()])) == ["CreateSupervisor"]


def test_another_spec_is_put_right_and_the_difference_named(world: World) -> None:
    world.apply([windowed()])
    step = only(world.plan([windowed(segment="day")]), UpdateSupervisor)
    assert step.reason == 'dataSchema.granularitySpec.segmentGranularity "hour" -> "day"'
    spec = dict(world.druid.supervisors()["sales"].spec)
    world.druid.post_supervisor({**spec, "context": {}})
    assert "not the one" in only(world.plan([windowed()]), UpdateSupervisor).reason


def test_a_topic_that_was_lost_starts_over_in_druid_too(world: World) -> None:
    world.apply([windowed()])
    world.kafka.delete_topic("penstock.sales.out")
    assert kinds(world.plan([windowed()])) == ["ResetSupervisor", "CreateTopic", "ResumeSupervisor"]


def test_an_unhealthy_supervisor_is_noted(world: World) -> None:
    world.apply([windowed()])
    world.druid.set_state("sales", "UNHEALTHY_TASKS", healthy=False)
    made = world.plan([windowed()])
    assert not made.changes
    assert [step.reason for step in render.shown(made)] == ["as declared, but UNHEALTHY_TASKS: the reason in one line"]


def test_a_supervisor_not_running_without_a_known_problem_points_to_logs_that_exist(world: World) -> None:
    world.apply([windowed()])
    world.druid.set_state("sales", "PENDING")
    (step,) = render.shown(world.plan([windowed()]))
    assert step.reason.startswith("as declared, but PENDING: see the logs of Druid")
    for name in re.findall(r"`penstock logs ([\w-]+)`", step.reason):
        assert part_named(world.settings, name)


def test_secrets_of_the_client_are_in_no_plan(world: World) -> None:
    secret = {"sasl.jaas.config": 'password="hunter2"'}
    env = world.settings.env

    def reach(inside: InsideSettings | None) -> None:
        kafka = env.kafka.model_copy(update={"client": secret, "inside": inside})
        world.settings = world.settings.model_copy(update={"env": env.model_copy(update={"kafka": kafka})})

    reach(None)
    with pytest.raises(DeclarationError, match=r"jobs and supervisors would be given sasl\.jaas\.config"):
        world.plan([windowed()])
    reach(InsideSettings(bootstrap="kafka:9092", client={"sasl.mechanism": "PLAIN"}))
    made = [world.plan([windowed()])]
    world.apply([windowed()])
    made.append(world.plan([windowed(segment="day")]))
    shown = json.dumps([plan_to_json(item) for item in made]) + "".join(render.markdown(item) for item in made)
    assert "hunter2" not in shown
    assert "hunter2" not in world.state(), "what Kafka, Flink and Druid keep"
    given = world.druid.supervisors()["sales"].spec["spec"]["ioConfig"]["consumerProperties"]
    assert given["bootstrap.servers"] == "kafka:9092" and given["sasl.mechanism"] == "PLAIN"


# What is no longer declared.


def test_a_pipeline_no_longer_declared(world: World) -> None:
    world.apply([windowed(), raw()])
    refused = only(world.plan([windowed()]), Refused)
    assert refused.flag == "drop-datasource"
    assert "`penstock remove sales_raw`" in refused.reason
    assert only(world.plan([windowed()], "drop-datasource"), RemovePipeline).action == "delete"
    world.apply([windowed()], "drop-datasource")
    assert world.druid.dropped == {"sales_raw"}
    assert "sales_raw" not in world.druid.supervisors()
    assert [job.name for job in world.flink.jobs() if job.live] == ["penstock.sales"]
    assert "penstock.sales_raw.out" in world.kafka.topics(["penstock.sales_raw.out"])
    assert not world.plan([windowed()]).changes


# The fingerprint.


def test_the_fingerprint_changes_with_what_counts_and_not_with_health(world: World) -> None:
    declared = [windowed()]
    seen = [world.plan(declared).fingerprint]
    world.apply(declared)
    seen.append(world.plan(declared).fingerprint)
    world.flink.set_state("penstock.sales", "RESTARTING")
    world.druid.set_state("sales", "UNHEALTHY_TASKS", healthy=False)
    assert world.plan(declared).fingerprint == seen[-1]
    seen.append(world.plan([windowed(segment="day")]).fingerprint)
    seen.append(world.plan(declared, "repartition").fingerprint)
    world.druid.suspend("sales")
    seen.append(world.plan(declared).fingerprint)
    assert len(set(seen)) == len(seen)


def test_plan_is_a_function_of_its_arguments(world: World) -> None:
    world.apply([windowed()])
    seen = world.observe([windowed()])
    assert plan([windowed()], seen, world.settings.env) == plan([windowed()], seen, world.settings.env)


# How it reads.


def test_the_text_of_plans(world: World, golden: Golden) -> None:
    parts = ["# first", text(world.plan([windowed(), raw()]))]
    world.apply([windowed(), raw()])
    parts += ["", "# second", text(world.plan([windowed(), raw()]))]
    world.flink.end("penstock.sales_raw", point=RestorePoint("memory:/checkpoints/chk-7"))
    changed = topic(partitions=2, retention="60 d")
    declared = [windowed(changed, measures={"n": "MAX(price)"}, segment="day")]
    parts += ["", "# changed, refused", text(world.plan(declared))]
    parts += ["", "# changed, allowed", text(world.plan(declared, *FLAGS))]
    golden.check(HERE / "golden" / "plans.txt", HASH.sub("<12 hex>", "\n".join(parts)))


def test_the_markdown_of_a_plan(world: World, golden: Golden) -> None:
    world.apply([windowed(), raw()])
    declared = [windowed(segment="day"), raw(topic(partitions=8))]
    golden.check(HERE / "golden" / "plan.md", HASH.sub("<12 hex>", render.markdown(world.plan(declared[:1]))))


def test_markdown_cells_are_escaped(world: World) -> None:
    about: dict[str, Any] = {"kind": "topic", "pipeline": "*", "subject": "x"}
    made = Plan("test", (), "f", (Keep(**about, notable=True, reason="a | b <c>"),))
    assert "| a \\| b &lt;c> |" in render.markdown(made)


def test_resuming_names_no_other_pipeline(world: World) -> None:
    world.apply([windowed(), raw()])
    world.druid.suspend("sales")
    assert only(world.plan([windowed(), raw()]), ResumeSupervisor).pipeline == "sales"
