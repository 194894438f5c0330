"""Late events and dead letters of another source topic, or of one that was deleted and made anew, are nobody's."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.deadletters.fix import Fix
from penstock.deadletters.letters import Letter
from penstock.deadletters.mend import SENT, mend
from penstock.deadletters.originals import originals
from penstock.maintenance import report
from penstock.rejected import read_rejected
from penstock.replay.repair import Repair, look, read_late
from penstock.settings import load_settings
from penstock.topics import dlq_topic, late_topic

from .replay.world import HOUR, SOURCE, TUMBLE, Life, lived
from .test_ledger import PIPELINE, Run
from .test_ledger import SOURCE as SOLD

#: The record at partition 0, offset 0 of the source is dated 1,000 ms.
STRANGERS = {"another topic": ("shop.returned.v1", 1_000), "a topic made anew": (SOURCE.name, 999)}


def headers(topic: str, timestamp: int, reason: str, offset: int = 0, **more: int) -> list[tuple[str, bytes]]:
    about = {"topic": topic, "partition": 0, "offset": offset, "timestamp": timestamp, "reason": reason} | more
    return [(name, str(value).encode()) for name, value in about.items()]


@pytest.mark.parametrize(("topic", "timestamp"), STRANGERS.values(), ids=STRANGERS)
def test_a_replay_counts_the_good_record_at_a_strange_letters_place(topic: str, timestamp: int, tmp_path: Path) -> None:
    life = lived(tmp_path)
    life.kafka.append(dlq_topic("sales"), b"x", headers=headers(topic, timestamp, "wrong type: 'at'"))
    done = life.replay()
    assert (done.status, life.rows(0, 60_000)) == ("done", [(0, 1), (0, 2)])


@pytest.mark.parametrize(("topic", "timestamp"), [(SOLD.name, 999), ("shop.returned.v1", 5_000)])
def test_the_ledger_counts_it_too(topic: str, timestamp: int, tmp_path: Path) -> None:
    (tmp_path / "penstock.toml").touch()
    run = Run(load_settings(tmp_path, environ={}))
    for branch, reason in ((dlq_topic, "wrong type: 'at'"), (late_topic, "late")):
        run.kafka.append(branch(PIPELINE.name), b"x", headers=headers(topic, timestamp, reason))
    run.event("a", 5_000, 5_000)
    run.result(0, "a", 1)
    run.read(1)
    ledger = run.verify()
    assert ledger.equal, ledger.differences
    assert (ledger.late, ledger.dead_lettered, ledger.on_time) == (0, 0, 1)


def test_a_late_event_of_another_topic_is_not_repaired(tmp_path: Path) -> None:
    life = lived(tmp_path)
    before = look(TUMBLE, life.services())
    strange = headers("shop.returned.v1", 1_000, "late", event_time=5 * HOUR)
    life.kafka.append(late_topic("sales"), b"x", headers=strange)
    assert look(TUMBLE, life.services()) == before


def test_a_late_event_that_the_log_ends_before_is_not_repaired_for_ever(tmp_path: Path) -> None:
    """No replay's cut would ever be past it: its topic was deleted and made anew."""
    life = Life(tmp_path)
    life.arrive(1_000)
    for offset in (0, 1):
        gone = headers(SOURCE.name, 500, "late", offset, event_time=500)
        life.kafka.append(late_topic("sales"), b"x", headers=gone)
    assert [it.offset for it in read_late(TUMBLE, life.kafka)] == [0]
    assert isinstance(look(TUMBLE, life.services()), Repair)


def test_strange_letters_are_in_no_report(tmp_path: Path) -> None:
    life = lived(tmp_path)
    for topic in ("shop.returned.v1", SOURCE.name):
        life.kafka.append(dlq_topic("sales"), b"x", headers=headers(topic, 1_000, "wrong type: 'at'"))
    (account,) = report([TUMBLE], life.services())
    assert dict(account.reasons) == {"wrong type": 1}


def test_a_strange_letter_is_sent_back_without_the_key_of_the_record_at_its_place(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.kafka.append(SOURCE.name, b"{}", key=b"another", timestamp=1_000)
    gone = Letter(b"x", None, "malformed JSON", SOURCE.name, 0, 0, 999)
    (record,) = originals(life.kafka, SOURCE.name, [gone.place]).values()
    fix = Fix("fixes.py:it", Path(), lambda letter: b'{"id":"a","at":1,"price":2}')
    made = mend(gone, record, SOURCE, fix, who=("me", "now"), now=1e12)
    assert (made.status, made.letter.key) == (SENT, b"a")


def test_where_a_record_was_is_read_from_its_headers(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.kafka.append(late_topic("sales"), b"x", headers=headers(SOURCE.name, 7, "late", 3, event_time=5))
    life.kafka.append(dlq_topic("sales"), None, headers=headers(SOURCE.name, 8, "null value", 4))
    late, dead = (
        [it for batch in read_rejected(life.kafka, name("sales"), SOURCE.name) for it in batch]
        for name in (late_topic, dlq_topic)
    )
    assert [it[:5] for it in late] == [(0, 3, 7, "late", 5)]
    assert [(*it[:5], it.record.value) for it in dead] == [(0, 4, 8, "null value", None, None)]
