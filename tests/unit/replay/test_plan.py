"""What is replayed, where the log is read from, and everything that refuses a replay; pure, or nearly so."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from penstock import Aggregate, Datasource, Hop, Pipeline, Tumble
from penstock.errors import DeclarationError, PenstockError, RefusedError
from penstock.flink.savepoint import checkpoint_id, source_offsets
from penstock.flink.spec import job_spec, version
from penstock.pipeline import Launch
from penstock.replay import render
from penstock.replay.derive import BatchSpec, batch_spec, publish_spec
from penstock.replay.facts import Facts, Live, LogFacts, log_facts
from penstock.replay.record import (
    Asked,
    Count,
    Cut,
    Figures,
    Handover,
    Replay,
    Settled,
    Sum,
    from_bytes,
    to_bytes,
)
from penstock.replay.run import new_id
from penstock.replay.scope import Scope, scope, segments, utc
from penstock.replay.steps import Plan, expected_seconds, plan, refusals, steps, words
from penstock.segments import moment
from penstock.services.memory_kafka import MemoryKafka
from penstock.settings import Environment, FlinkSettings, KafkaSettings
from penstock.topics import source_topic

from .world import HOUR, RAW, SOURCE, TUMBLE, lived

HOP = Pipeline(
    "rolling",
    SOURCE,
    Aggregate(window=Hop(size="1 h", slide="5 min"), by=["id"], measures={"n": "COUNT(*)"}),
    Datasource(dimensions=["id"], segment="hour"),
)
MONTHLY = Pipeline(
    "monthly",
    SOURCE,
    Aggregate(window=Tumble("1 d"), by=["id"], measures={"n": "COUNT(*)"}),
    Datasource(dimensions=["id"], segment="month"),
)
ENV = Environment(name="test", flink=FlinkSettings(state="file:///state"))


def span(found: Scope) -> tuple[str, str, str]:
    return utc(found.start), utc(found.end), utc(found.events_end)


def test_a_range_is_widened_to_whole_segments() -> None:
    assert span(scope(TUMBLE, "2024-01-01T00:30", "2024-01-01T01:01")) == (
        "2024-01-01T00:00Z",
        "2024-01-01T02:00Z",
        "2024-01-01T02:00Z",
    )
    assert span(scope(MONTHLY, "2024-01-31", "2024-02-02"))[:2] == ("2024-01-01T00:00Z", "2024-03-01T00:00Z")
    assert not scope(TUMBLE, "2024-01-01", "2024-01-02").widened
    assert len(segments(MONTHLY, moment("", "2024-01-01"), moment("", "2025-01-01"))) == 12


def test_sliding_windows_take_events_beyond_the_range_and_close_later() -> None:
    found = scope(HOP, "2024-01-01T00:00", "2024-01-01T01:00")
    assert span(found) == ("2024-01-01T00:00Z", "2024-01-01T01:00Z", "2024-01-01T01:55Z")
    assert found.closed_at == found.events_end - 1
    assert scope(RAW, "2024-01-01T00:00", "2024-01-01T01:00").closed_at is None


@pytest.mark.parametrize(("start", "end"), [("2024-01-02", "2024-01-01"), ("2024-01-01", "2024-01-01")])
def test_an_empty_range_is_a_mistake(start: str, end: str) -> None:
    with pytest.raises(DeclarationError, match="is not before"):
        scope(TUMBLE, start, end)


def _replay(pipeline: Pipeline = TUMBLE, **more: object) -> Replay:
    found = scope(pipeline, "1970-01-01T00:00", "1970-01-01T01:00")
    asked = Asked(*found.asked, found.start, found.end, dry_run=bool(more.pop("dry_run", False)))
    return Replay("r1", pipeline.name, version(pipeline), asked, **more)  # type: ignore[arg-type]


def _facts(pipeline: Pipeline = TUMBLE, **changes: object) -> Facts:
    live = Live("job", version(pipeline), watermark=2 * HOUR)
    return replace(Facts(live, LogFacts({0: 0, 1: 0}, {0: 9, 1: 9}, {}), slots=2), **changes)  # type: ignore[arg-type]


def _refused(pipeline: Pipeline = TUMBLE, replay: Replay | None = None, **changes: object) -> str:
    found = scope(pipeline, "1970-01-01T00:00", "1970-01-01T01:00")
    asked = replay or _replay(pipeline)
    return "\n".join(map(str, refusals(pipeline, found, asked, _facts(pipeline, **changes))))


def test_nothing_stands_against_a_closed_range() -> None:
    for pipeline in (TUMBLE, HOP, RAW):
        assert _refused(pipeline) == ""


def test_open_windows_are_refused_saying_when_they_close() -> None:
    text = _refused(live=Live("job", version(TUMBLE), watermark=HOUR - 2))
    assert "windows of the range are still open: the watermark is at 1970-01-01T00:59:59Z" in text
    assert "they close at 1970-01-01T01:00Z, when events dated 1970-01-01T01:00:05Z have been read" in text
    assert "silent for 10 s" in text
    assert _refused(live=Live("job", version(TUMBLE), watermark=HOUR - 1)) == ""
    assert "the watermark is at -" in _refused(live=Live("job", version(TUMBLE), watermark=None))


def test_what_is_possible_now_is_told() -> None:
    found = scope(HOP, "1970-01-01T00:00", "1970-01-01T04:00")
    facts = _facts(HOP, live=Live("job", version(HOP), watermark=4 * HOUR))
    (refusal,) = refusals(HOP, found, _replay(HOP), facts)
    assert "--to 1970-01-01T03:00Z is possible now" in refusal.hint


def test_a_job_that_does_not_run_or_runs_another_version_is_refused() -> None:
    assert "its job does not run" in _refused(live=Live())
    assert "version old runs" in _refused(live=Live("job", "old", 2 * HOUR))
    assert _refused(RAW, live=Live()) == "", "a pass-through pipeline's job is stopped anyway"


def test_a_log_that_is_too_short_is_refused() -> None:
    text = _refused(log=LogFacts({0: 5}, {0: 9}, {0: 2 * HOUR}))
    assert "partitions 0 of shop.sold.v1 begin later than the range (at 1970-01-01T02:00Z)" in text


def test_overlapping_replays_are_refused_and_others_are_not() -> None:
    other = replace(_replay(), id="r0")
    assert "replay r0 of 1970-01-01T00:00Z to 1970-01-01T01:00Z is not finished" in _refused(others=(other,))
    elsewhere = replace(other, asked=replace(other.asked, wide_start=HOUR, wide_end=2 * HOUR))
    assert _refused(others=(elsewhere,)) == ""
    assert "r0" in _refused(RAW, others=(elsewhere,)), "two of them would stop and start the same job"
    assert _refused(others=(_replay(),)) == "", "it is no obstacle to itself"
    assert _refused(replay=_replay(dry_run=True), others=(other,)) == ""


def test_foreign_datasources_no_slots_and_suspended_supervisors_are_refused() -> None:
    assert "never replaced" in _refused(foreign="Druid's supervisor sales was not made by Penstock")
    assert "no free slot" in _refused(slots=0)
    assert "is suspended" in _refused(suspended=True)
    assert _refused(replay=_replay(dry_run=True), suspended=True) == ""


def test_all_refusals_are_told_at_once_and_nothing_is_done(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.flink.slots = 0
    life.druid.suspend("sales")
    with pytest.raises(RefusedError) as caught:
        life.replay("1970-01-01T00:00", "1970-01-01T02:00")
    for word in ("still open", "no free slot", "is suspended"):
        assert word in caught.value.message
    assert life.replays.read() == {}


def test_the_plan_is_the_list_of_steps_in_words() -> None:
    found = scope(TUMBLE, "1970-01-01T00:30", "1970-01-01T01:00")
    made = plan(TUMBLE, found, _replay(), _facts())
    assert [step.kind for step in made.steps] == [
        "close",
        "cut",
        "settle",
        "compute",
        "verify",
        "hand off",
        "publish",
        "check",
        "receipt",
    ]
    text = " | ".join(map(words, made.steps))
    assert "0: 0 to 9, 1: 0 to 9" in text
    assert "18 records, parallelism 1" in text
    assert "replace 1 segment in one transaction" in text
    table = render.plan_json(made)
    assert table["widened"] is True and len(table["steps"]) == len(made.steps)
    kinds = [step.kind for step in steps(RAW, scope(RAW, "1970-01-01", "1970-01-02"), _replay(RAW), {}, {})]
    assert kinds[0] == "stop" and kinds[-2:] == ["resume", "receipt"]
    dry = [step.kind for step in steps(RAW, found, _replay(RAW, dry_run=True), {}, {})]
    assert not {"stop", "hand off", "publish", "resume"} & set(dry)


def _log(*stamps: int) -> MemoryKafka:
    kafka = MemoryKafka()
    kafka.create_topic(source_topic(SOURCE, ENV))
    for stamp in stamps:
        kafka.append(SOURCE.name, b"{}", timestamp=stamp)
    return kafka


def test_reading_begins_where_nothing_of_the_range_can_lie_before() -> None:
    """An event may be stamped up to `too_early` (1 h) before it happens, and still be counted."""
    found = scope(TUMBLE, "1970-01-01T05:00", "1970-01-01T06:00")
    facts = log_facts(SOURCE, found, _log(3 * HOUR, 4 * HOUR - 1, 4 * HOUR, 5 * HOUR), now=6 * HOUR)
    assert facts.low == {0: 2, 1: 0}
    assert facts.end == {0: 4, 1: 0}
    assert facts.cut_off == {}


def test_what_retention_has_removed_of_the_range_is_noticed() -> None:
    found = scope(TUMBLE, "1970-01-01T05:00", "1970-01-01T06:00")
    kafka = _log(3 * HOUR, 5 * HOUR)
    kafka.expire(SOURCE.name, 0, 1)
    assert log_facts(SOURCE, found, kafka, now=6 * HOUR).cut_off == {0: 5 * HOUR}
    kafka.append(SOURCE.name, b"{}", partition=1, timestamp=0)
    kafka.expire(SOURCE.name, 1, 1)
    assert 1 not in log_facts(SOURCE, found, kafka, now=6 * HOUR).cut_off, (
        "an hour ago was removed by a 30 d retention?"
    )
    assert log_facts(SOURCE, found, kafka, now=6 * HOUR + 40 * 24 * HOUR).cut_off == {0: 5 * HOUR, 1: None}


def test_a_record_is_read_back_equal() -> None:
    replay = _replay(
        done=("close", "cut"),
        cut=Cut({0: 1}, {0: 5}, 7, "job"),
        settled=Settled(3, "file:///x", {0: 4}),
        figures=Figures(5, {0: Count(1, 2)}, {0: Count(2, 3)}, {}, 2),
        seconds={"close": 0.5},
    )
    assert from_bytes(to_bytes(replay)) == replay
    with pytest.raises(PenstockError, match="can't be read"):
        from_bytes(b'{"id": 1}')


def test_fields_of_a_newer_penstock_are_ignored_wherever_they_are() -> None:
    """Else one record of a newer Penstock would end every verb that reads receipts: apply, plan, replay and repair."""
    replay = _replay(TUMBLE).but(
        cut=Cut({0: 1}, {0: 9}),
        settled=Settled(7, "file:/x", {0: 3}),
        figures=Figures(5, {0: Count(1, 2)}, sums={"n": Sum(1.0, 2.0)}),
        handover=Handover("v1", 2, Launch(1, 0, HOUR, ((0, 1),), ((0, 9),)), {0: 4}, {0: Count(1, 1)}, HOUR),
    )

    def with_more(value: object) -> object:
        if not isinstance(value, dict):
            return value
        more = {name: with_more(item) for name, item in value.items()}
        by_number = not value or all(name.isdigit() or name == "n" for name in value)
        return more if by_number else more | {"of_a_newer_one": {"a": [1]}}

    newer = with_more(json.loads(to_bytes(replay)))
    assert json.dumps(newer).count("of_a_newer_one") == 10
    assert from_bytes(json.dumps(newer).encode()) == replay


def test_ids_are_short_enough_for_files_and_tasks() -> None:
    assert new_id("sales") != new_id("sales")


def test_a_rate_is_shared_by_the_subtasks() -> None:
    found = scope(TUMBLE, "1970-01-01T00:00", "1970-01-01T01:00")
    spec = batch_spec(TUMBLE, ENV, found, replay="r", attempt=1, low={0: 0}, cut={0: 9}, parallelism=2, rate=1000)
    assert "`throttle`(CAST(500.000 AS DOUBLE), `_offset`)" in spec.statement
    assert any("CREATE TEMPORARY FUNCTION `throttle`" in table for table in spec.tables)


def test_a_plan_says_how_long_it_takes_and_a_rate_holds_for_both_reads_of_the_log() -> None:
    found = scope(TUMBLE, "1970-01-01T00:00", "1970-01-01T01:00")

    def seconds(rows: int, rate: float | None, dry_run: bool = True) -> float:
        replay = replace(_replay(TUMBLE), asked=Asked(0, HOUR, 0, HOUR, dry_run=dry_run, rate=rate))
        made = Plan(replay, found, tuple(steps(TUMBLE, found, replay, {0: 0}, {0: rows})))
        return expected_seconds(made)

    assert seconds(0, None, dry_run=False) > seconds(0, None) > 0
    assert seconds(100_000, 1_000) - seconds(0, 1_000) == pytest.approx(2 * 100)
    assert seconds(100_000, 1e9) == seconds(100_000, None) < 10


def test_a_limit_of_the_brokers_is_shared_by_the_subtasks_and_taken_away_again() -> None:
    """Each client id has a quota of its own: verifying has the whole, as it comes after."""
    found = scope(TUMBLE, "1970-01-01T00:00", "1970-01-01T01:00")

    def spec(limit: float | None) -> BatchSpec:
        kafka = KafkaSettings(client={"sasl.mechanism": "PLAIN"}, replay_bytes_per_second=limit)
        env = ENV.model_copy(update={"kafka": kafka})
        return batch_spec(TUMBLE, env, found, replay="r", attempt=1, low={0: 0}, cut={0: 9}, parallelism=2)

    name = "penstock-test-sales-replay"
    assert spec(3e6).quotas == {f"{name}-0": 1.5e6, f"{name}-1": 1.5e6, f"{name}-verify": 3e6}
    assert set(spec(None).quotas.values()) == {None} and set(spec(None).quotas) == set(spec(3e6).quotas)
    assert f"'properties.client.id.prefix' = '{name}'" in spec(3e6).tables[0]
    with pytest.raises(ValidationError, match="greater than 0"):
        spec(0)
    name = "the live job's consumers are named otherwise"
    assert "client.id" not in job_spec(TUMBLE, ENV).tables[0], name


def test_without_rows_old_segments_go_all_the_same() -> None:
    found = scope(TUMBLE, "1970-01-01T00:00", "1970-01-01T01:00")
    config = publish_spec(TUMBLE, found, [], identity="t")["spec"]["ioConfig"]
    beyond = {"type": "inline", "data": '{"window_start": 3600000}'}
    assert config["inputSource"] == beyond, "Druid refuses empty data, and passes over what is outside the intervals"
    assert config["dropExisting"] is True


def _split(partition: int, offset: int, end: int = -(2**63)) -> bytes:
    name = SOURCE.name.encode()
    return struct.pack(">H", len(name)) + name + struct.pack(">iqq", partition, offset, end)


def test_a_savepoint_tells_where_the_source_stood(tmp_path: Path) -> None:
    assigned = b"".join(_split(partition, -2) for partition in range(3))
    (tmp_path / "_metadata").write_bytes(b"x" + assigned + _split(0, 17) + b"y" + _split(1, 4))
    assert source_offsets(tmp_path, SOURCE.name, 3) == {0: 17, 1: 4, 2: None}


@pytest.mark.parametrize("data", [b"", _split(0, 17) + _split(0, 18), _split(0, -3), _split(0, 17, end=20)])
def test_a_savepoint_that_does_not_tell_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "_metadata").write_bytes(data)
    with pytest.raises(PenstockError, match="does not say where partition 0"):
        source_offsets(tmp_path, SOURCE.name, 1)


def test_a_state_tells_its_checkpoints_number_by_name_or_header(tmp_path: Path) -> None:
    assert checkpoint_id("s3://states/checkpoints/0f/chk-12/") == 12
    assert checkpoint_id("s3://states/savepoints/savepoint-0f-1") is None, "it can't be looked into from here"
    assert checkpoint_id(tmp_path.as_uri()) is None
    file = tmp_path / "_metadata"
    # As Flink 2.2.1 wrote it: the first 24 bytes of a savepoint.
    file.write_bytes(bytes.fromhex("4960672d0000000600000000000000d3000000000000000e"))
    assert checkpoint_id(tmp_path.as_uri()) == 211
    for other in ("4960672d00000002000000000000000b", "0000000000000006000000000000000b", "4960672d0000"):
        file.write_bytes(bytes.fromhex(other))
        assert checkpoint_id(tmp_path.as_uri()) is None
