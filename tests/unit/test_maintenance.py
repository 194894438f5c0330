"""Maintenance: what is due and nothing else; twice, nothing is due."""

from __future__ import annotations

import os
from pathlib import Path

from penstock.maintenance import Compact, Delete, KeepRows, maintain, plan, report
from penstock.replay.record import Asked, Cut, Replay
from penstock.settings import MaintenanceSettings
from tests.unit.memory import Fault
from tests.unit.replay.test_launch import CHANGED, upgrade
from tests.unit.replay.world import HOUR, TUMBLE, Life, lived

DAY = 86_400.0


def settle(life: Life, **fields: object) -> None:
    """Change the maintenance settings of the environment."""
    env = life.settings.env.model_copy(update={"maintenance": MaintenanceSettings(**fields)})  # type: ignore[arg-type]
    life.settings = life.settings.model_copy(update={"env": env})


def due(life: Life, now: float | None = None):  # type: ignore[no-untyped-def]
    return plan([TUMBLE], life.services(), life.settings, now)


def test_closed_intervals_of_many_segments_are_compacted_once(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.druid.hand_off("sales", [0])
    life.druid.fragments["sales"] = {(0, HOUR): ("a", "b"), (HOUR, 2 * HOUR): ("c", "d")}
    todo = due(life)
    assert todo == [Compact("sales", 0, HOUR, ("a", "b"))], "windows of the second hour are still open"
    fault = Fault()
    assert len(maintain(todo, life.services(fault), life.settings, timeout=0.2)) == 1
    assert fault.calls == ["submit_task"]
    assert due(life) == []
    again = Fault()
    maintain(todo, life.services(again), life.settings, timeout=0.2)
    assert again.calls == [], "the same segments are the same task"


def test_what_a_running_task_serves_or_a_replay_is_about_waits(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.druid.fragments["sales"] = {(0, HOUR): ("a", "b")}
    assert due(life) == [], "its rows are still with a task"
    life.druid.hand_off("sales", [0])
    life.replays.write(Replay("r1", "sales", "v", Asked(0, HOUR, 0, HOUR)))
    assert due(life) == []


def test_rules_are_set_where_named_and_once(tmp_path: Path) -> None:
    life = lived(tmp_path)
    assert due(life) == []
    settle(life, rows={"sales": "90 d"})
    (rule,) = due(life)
    assert isinstance(rule, KeepRows)
    assert rule.rules[0]["period"] == "P90D"
    maintain([rule], life.services(), life.settings)
    assert due(life) == []
    settle(life, rows={"sales": "91 d"})
    assert len(due(life)) == 1


def old(folder: Path, days: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "_metadata").write_text("x")
    os.utime(folder, (1e9 - days * DAY, 1e9 - days * DAY))
    return folder


def test_only_what_is_old_and_nothing_refers_to_is_deleted(tmp_path: Path) -> None:
    life = lived(tmp_path)
    record = life.registry.read()["sales"]
    root = tmp_path / "state" / "savepoints" / "sales"
    kept, own = old(root / "savepoint-aaaaaa-1", 99), old(root / f"savepoint-{record.job_id[:6]}-9", 99)
    cut, gone, young = (
        old(root / "savepoint-bbbbbb-1", 99),
        old(root / "savepoint-cccccc-1", 31),
        old(root / "savepoint-dddddd-1", 29),
    )
    life.registry.write(record.but(restore=kept.as_uri()))
    life.replays.write(Replay("r9", "sales", "v", Asked(0, 1, 0, 1), cut=Cut({}, {}, savepoint=cut.as_uri())))
    running, lost = old(tmp_path / "state/replays/test/r9", 99), old(tmp_path / "state/replays/test/r0", 8)
    todo = due(life, now=1e9)
    assert [item.folder for item in todo if isinstance(item, Delete)] == [str(gone), str(lost)]
    maintain(todo, life.services(), life.settings)
    assert all(folder.exists() for folder in (kept, own, cut, young, running))
    assert not gone.exists() and not lost.exists()
    assert due(life, now=1e9) == []


def test_of_a_second_generation_its_own_topics_are_counted(tmp_path: Path) -> None:
    life = lived(tmp_path)
    upgrade(life, CHANGED)
    headers = [("topic", b"shop.sold.v1"), ("partition", b"1"), ("offset", b"999"), ("timestamp", b"5")]
    headers.append(("reason", b"too early: by 3 d"))
    life.kafka.append("penstock.sales.1.dlq", b"{}", headers=headers)
    (account,) = report([CHANGED], life.services())
    assert (dict(account.reasons), account.late) == ({"too early": 1}, 0)


def test_a_pipeline_that_is_not_applied_needs_nothing(tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.registry.write(life.registry.read()["sales"].but(status="removed"))
    life.druid.fragments["sales"] = {(0, HOUR): ("a", "b")}
    assert due(life) == []
    assert report([TUMBLE], life.services()) == []


def test_the_report_counts_what_was_left_out(tmp_path: Path) -> None:
    life = lived(tmp_path)
    headers = [("topic", b"shop.sold.v1"), ("partition", b"1"), ("offset", b"999"), ("timestamp", b"5")]
    headers.append(("reason", b"malformed JSON: line 1"))
    life.kafka.append("penstock.sales.dlq", b"{", headers=headers)
    (account,) = report([TUMBLE], life.services())
    assert (account.dead_lettered, account.late, account.healed) == (1, 2, 0)
    assert str(account) == "sales: 1 dead-lettered (1 malformed JSON), 2 late, 2 of them not healed"
    life.replay()
    assert report([TUMBLE], life.services())[0].healed == 2
