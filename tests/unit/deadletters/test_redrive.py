"""Dead letters go back once, marked, if they are fit to; whatever dies in between."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from penstock.data.malformed import largest_value
from penstock.data.murmur2 import partition_of
from penstock.deadletters import redrive as module
from penstock.deadletters.fix import Fix
from penstock.deadletters.letters import Letter
from penstock.deadletters.markers import AT, BY, FROM, REASON, TOPIC, create_topic, read_markers, transactional_id
from penstock.deadletters.mend import FAILED, LEFT, SENT, UNFIT, mend
from penstock.errors import DeclarationError, RefusedError, WaitTimeoutError
from penstock.services.kafka_write import Outgoing

from ..memory import Crash, Fault, topic
from .shop import GOOD, SOURCE, Shop, dies, mended


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_a_letter_goes_back_marked_and_keyed_as_it_was(shop: Shop) -> None:
    partition, offset = shop.broken(b'{"id":7}', key=b"k", headers=[("trace", b"x")], partition=1)
    now = round(time.time() * 1000)
    done = shop.redrive()
    (record,) = shop.sent()
    assert json.loads(record.value or b"") == {"id": "b", "at": 5, "price": offset}
    assert (record.key, record.partition) == (b"k", partition_of(b"k", 2))
    assert record.timestamp >= now, "a record's timestamp is its producer's clock"
    headers = dict(record.headers)
    assert headers["trace"] == b"x"
    assert headers[FROM] == b"shop.sold.v1/1/0"
    assert headers[REASON] == b"wrong type: field 'id' wants a string, got a whole number"
    assert b"@" in headers[BY] and headers[AT].startswith(b"20")
    (marker,) = shop.markers().items()
    assert marker[0] == "test/shop.sold.v1/1/0"
    assert (marker[1]["partition"], marker[1]["offset"]) == (record.partition, record.offset)
    assert (marker[1]["pipeline"], marker[1]["fix"]) == ("sales", "fixes.py:mended")
    assert done.outcomes[0].to == (record.partition, record.offset)
    assert (partition, done.counts[SENT], done.held_back) == (1, 1, 0)


def test_a_letter_goes_back_once_for_all_pipelines_of_the_topic(shop: Shop) -> None:
    shop.broken()
    shop.broken(partition=1)
    assert shop.redrive().counts[SENT] == 2
    for pipeline in shop.pipelines:
        again = shop.redrive(pipeline)
        assert (again.outcomes, len(again.before)) == ((), 2)
    shop.broken()
    assert shop.redrive(shop.pipelines[1]).counts[SENT] == 1
    assert len(shop.sent()) == 3


def test_a_topic_that_was_made_anew_has_other_records_at_the_same_places(shop: Shop) -> None:
    shop.broken(timestamp=1)
    shop.redrive()
    shop.kafka.delete_topic("penstock.sales.dlq")
    shop.kafka.delete_topic(SOURCE.name)
    other = Shop(shop.settings.root)
    shop.kafka._states |= {k: v for k, v in other.kafka._states.items() if k in ("penstock.sales.dlq", SOURCE.name)}
    shop.kafka._logs |= {k: v for k, v in other.kafka._logs.items() if k in ("penstock.sales.dlq", SOURCE.name)}
    assert shop.broken(timestamp=2) == (0, 0)
    assert shop.redrive().counts[SENT] == 1


def test_what_would_be_dead_again_is_held_back_and_told_in_groups(shop: Shop) -> None:
    def fix(letter: Letter) -> Any:
        return [
            {**mended(letter), "id": 5},
            {**mended(letter), "id": 6},
            {"id": "b", "at": 5},
            b'{"id":"b',
            {**mended(letter), "at": 4_102_444_800_000},
            {**mended(letter), "more": "x" * SOURCE.max_message_bytes},
            mended(letter),
        ][letter.offset]

    for _ in range(7):
        shop.broken()
    done = shop.redrive(fix=fix)
    assert done.counts == {UNFIT: 6, SENT: 1}
    assert len(shop.sent()) == 1
    told = [(status, why.partition(";")[0], count, example) for status, why, count, example in done.told()]
    assert told[0] == (UNFIT, "wrong type: field 'id' wants a string, got a whole number", 2, "0:0")
    assert {why.partition(":")[0] for _, why, _, _ in told[1:]} == {
        "missing required field",
        "malformed JSON",
        "too early",
        "too large",
    }
    assert "2100-01-01T00:00:00Z, more than 1 h ahead of now" in str(told)


def test_a_value_of_the_largest_size_fits_with_its_marks(shop: Shop) -> None:
    """What is let through is taken: the largest value by what the batch is, to the byte."""
    letter = Letter(b"", None, "wrong type: x", SOURCE.name, 0, 0, 0)

    def outcome(size: int) -> str:
        text = '{"id":"b","at":5,"price":1,"more":"'
        value = (text + "x" * (size - len(text) - 2) + '"}').encode()
        fix = Fix("f", Path("f"), lambda _: value)
        made = mend(letter, None, SOURCE, fix, who=("me", "now"), now=10)
        assert made.status == UNFIT or made.letter.key == b"b"
        return made.status

    headers = [(FROM, b"shop.sold.v1/0/0"), (REASON, b"wrong type: x"), (BY, b"me"), (AT, b"now")]
    room = largest_value(SOURCE.max_message_bytes, b"b", headers)
    assert largest_value(SOURCE.max_message_bytes, b"b") - room == sum(len(n) + len(v) + 2 for n, v in headers)
    assert (outcome(room), outcome(room + 1)) == (SENT, UNFIT)


def test_a_fix_that_fails_fails_for_its_letter_alone(shop: Shop) -> None:
    def fix(letter: Letter) -> Any:
        match letter.offset:
            case 0:
                return None
            case 1:
                return json.loads(b"{")
            case 2:
                return "text"
            case 3:
                return {"at": {1, 2}}
            case 4:
                raise SystemExit("enough")
        return mended(letter)

    for _ in range(6):
        shop.broken()
    done = shop.redrive(fix=fix)
    assert done.counts == {LEFT: 1, FAILED: 4, SENT: 1}
    why = {outcome.letter.offset: outcome.detail for outcome in done.outcomes}
    assert why[1].startswith("deadletters/test_redrive.py:") and "JSONDecodeError: Expecting property name" in why[1]
    assert why[2] == "fixes.py:mended returned str: it returns bytes, a dict or None"
    assert "TypeError: Object of type set is not JSON serializable" in why[3]
    assert "SystemExit: enough" in why[4]
    assert done.held_back == 4
    assert len(shop.sent()) == 1


def test_without_a_fix_the_bytes_go_back_as_they_are(shop: Shop) -> None:
    shop.broken(GOOD)
    shop.broken(b"nonsense")
    shop.broken(None)
    done = shop.redrive(fix=None)
    assert done.counts == {SENT: 1, UNFIT: 2}
    assert [record.value for record in shop.sent()] == [GOOD]


def test_the_key_of_a_record_that_is_gone_is_made_of_the_value(shop: Shop) -> None:
    shop.broken(key=b"k", headers=[("trace", b"x")])
    shop.kafka.expire(SOURCE.name, 0, 1)
    shop.redrive()
    (record,) = shop.sent()
    assert (record.key, record.partition) == (b"b", partition_of(b"b", 2))
    assert "trace" not in dict(record.headers)


def test_a_record_without_a_key_stays_in_its_partition(shop: Shop) -> None:
    shop.broken(partition=1)
    shop.redrive()
    (record,) = shop.sent()
    assert (record.key, record.partition) == (None, 1)


def test_a_record_that_was_sent_back_broken_is_a_letter_of_its_own(shop: Shop) -> None:
    shop.broken()
    shop.redrive()
    (first,) = shop.sent()
    shop.broken(key=b"k", headers=[*first.headers, ("trace", b"x")])  # a later declaration cannot read it
    shop.redrive()
    again = shop.sent()[-1]
    assert [name for name, _ in again.headers].count(FROM) == 1
    assert dict(again.headers)[FROM] == b"shop.sold.v1/0/3", "after the record and its marker"


def test_what_is_asked_for_is_sent_and_no_more(shop: Shop) -> None:
    for value in (b"{}", b"x", b"y", None, b"{}"):
        shop.broken(value)
    assert shop.redrive(reasons={"malformed JSON"}, limit=1).counts[SENT] == 1
    assert shop.redrive(reasons={"malformed JSON"}, limit=1).counts[SENT] == 1
    assert shop.redrive(places={(0, 4)}).counts[SENT] == 1
    assert shop.origins() == ["shop.sold.v1/0/1", "shop.sold.v1/0/2", "shop.sold.v1/0/4"]


def test_many_letters_go_in_several_transactions(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    monkeypatch.setattr(module, "CHUNK_BYTES", 50)
    for number in range(8):
        shop.broken(b"x" * 50 if number == 4 else b"x")
    assert shop.redrive().counts[SENT] == 8
    offsets = [record.offset for record in shop.sent()]
    markers = [b - a - 1 for a, b in pairwise(offsets)]
    assert markers == [0, 0, 1, 0, 1, 0, 0], "3, 2 (as one is large) and 3, with the transactions' markers between"


def test_a_dry_run_writes_nothing_and_shows_the_values(shop: Shop) -> None:
    shop.broken(b"x")
    before = len(shop.read(SOURCE.name))
    done = shop.redrive(dry_run=True)
    (outcome,) = done.outcomes
    assert (outcome.status, outcome.letter.value, outcome.to) == (SENT, b"x", None)
    assert outcome.value == b'{"id":"b","at":5,"price":0}'
    assert len(shop.read(SOURCE.name)) == before
    assert shop.kafka.topics([TOPIC]) == {}
    assert shop.redrive().outcomes[0].value is None, "values are let go as they are sent"


def test_killed_at_any_point_and_run_again_each_is_sent_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)

    def lived(folder: str, fault: Fault) -> Shop:
        shop = Shop(tmp_path / folder)
        for number in range(3):
            shop.broken(partition=number % 2)
        append, end = shop.kafka.append, shop.kafka.end
        dies(shop.kafka, fault.around)
        try:
            shop.redrive()
        except Crash:
            assert fault.at
        shop.kafka.append, shop.kafka.end = append, end  # type: ignore[method-assign]
        return shop

    whole = Fault()
    expected = lived("whole", whole).origins()
    assert expected == ["shop.sold.v1/0/0", "shop.sold.v1/0/1", "shop.sold.v1/1/0"]
    assert whole.calls == ["append"] * 4 + ["end"] + ["append"] * 2 + ["end"]
    for at in range(1, len(whole.calls) + 1):
        for after in (False, True):
            shop = lived(f"{at}-{after}", Fault(at, after))
            shop.redrive(shop.pipelines[1])
            assert shop.origins() == expected, f"killed {'after' if after else 'before'} step {at}"
            assert len(shop.markers()) == 3
            assert shop.redrive().outcomes == ()


def test_a_second_redrive_fences_the_first(shop: Shop) -> None:
    shop.broken()

    def overtaken(letter: Letter) -> dict[str, Any]:
        shop.redrive(shop.pipelines[1])
        return mended(letter)

    with pytest.raises(RefusedError, match=r"another process has taken over as penstock-test-redrive-shop.sold.v1"):
        shop.redrive(fix=overtaken)
    assert len(shop.sent()) == 1


def test_what_was_sent_before_this_one_took_over_is_not_sent_again(shop: Shop) -> None:
    shop.broken()
    take_over = shop.kafka.transactional

    def overtaken(name: str, **more: int) -> Any:
        shop.kafka.transactional = take_over  # type: ignore[method-assign]
        shop.redrive(shop.pipelines[1])
        return take_over(name, **more)

    shop.kafka.transactional = overtaken  # type: ignore[method-assign,assignment]
    assert shop.redrive().outcomes == ()
    assert len(shop.sent()) == 1


def test_markers_behind_another_topic_s_open_transaction_are_waited_for(shop: Shop) -> None:
    shop.broken()
    shop.redrive()
    (marker,) = shop.markers().items()
    shop.kafka.delete_topic(TOPIC)
    other = shop.kafka.transactional("another topic's", max_message_bytes=1)

    def while_open(_: Any) -> list[Outgoing]:
        shop.kafka.append(TOPIC, json.dumps(marker[1]).encode(), key=marker[0].encode())
        with pytest.raises(WaitTimeoutError, match="records in open transactions"):
            shop.redrive()
        return []

    create_topic(shop.kafka, shop.settings.env)
    other.write([Outgoing(TOPIC, 0, b"test/other/0/0", b"{}")], while_open)
    assert (shop.redrive().outcomes, len(shop.sent())) == ((), 1)


def test_what_can_not_be_done_is_refused(shop: Shop, tmp_path: Path) -> None:
    shop.broken()
    with pytest.raises(DeclarationError, match=r"sales has no dead letter of shop.sold.v1 at 0:7, 1:0"):
        shop.redrive(places={(0, 0), (0, 7), (1, 0)})
    shop.kafka.delete_topic("penstock.sales.dlq")
    with pytest.raises(DeclarationError, match=r"sales is not applied: there is no topic penstock.sales.dlq"):
        shop.redrive()
    foreign = Shop(tmp_path / "foreign", topic(external=True, partitions=2))
    foreign.broken()
    with pytest.raises(RefusedError, match=r"shop.sold.v1 is external: it belongs to others\n  --allow external"):
        foreign.redrive()
    assert foreign.redrive(allow={"external"}).counts[SENT] == 1
    shop.kafka.delete_topic(SOURCE.name)
    with pytest.raises(DeclarationError, match=r"there is no topic shop.sold.v1"):
        shop.redrive()


def test_the_markers_of_one_topic_are_not_another_s(shop: Shop) -> None:
    shop.broken()
    shop.redrive()
    env = shop.settings.env
    assert set(read_markers(shop.kafka, env, SOURCE)) == {(0, 0)}
    assert read_markers(shop.kafka, env, replace(SOURCE, name="shop.sold")) == {}
    assert transactional_id(env, SOURCE) == "penstock-test-redrive-shop.sold.v1"
