"""Dead letters are counted by kind, each origin once; the records they were made of are found in the log."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.deadletters import originals as module
from penstock.deadletters.letters import Group, grouped, parse_place, read_letters
from penstock.deadletters.markers import read_markers, redriven
from penstock.deadletters.originals import originals
from penstock.errors import DeclarationError
from penstock.pipeline import Launch
from penstock.topics import topic_specs

from .shop import SALES, SOURCE, Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_letters_are_counted_by_kind(shop: Shop) -> None:
    for timestamp, value in enumerate([b"x", b"y", b"{", None, b"{}"], start=5):
        shop.broken(value, timestamp=timestamp * 1000)
    shop.redrive(places={(0, 1)})
    markers = read_markers(shop.kafka, shop.settings.env, SOURCE)
    assert grouped(read_letters(SALES, shop.kafka), lambda it: redriven(it, markers)) == [
        Group("malformed JSON", 3, 1, 5_000, 7_000, (0, 0)),
        Group("missing required field", 1, 0, 9_000, 9_000, (0, 4)),
        Group("null value", 1, 0, 8_000, 8_000, (0, 3)),
    ]


def test_a_letter_that_is_there_twice_is_one(shop: Shop) -> None:
    """A job that is started without its state reads the log again."""
    shop.broken()
    (letter,) = shop.read("penstock.sales.dlq")
    shop.kafka.append("penstock.sales.dlq", letter.value, headers=letter.headers)
    assert len(list(read_letters(SALES, shop.kafka))) == 1


def test_letters_of_a_topic_that_was_read_before_are_left_out(shop: Shop) -> None:
    shop.broken()
    (letter,) = shop.read("penstock.sales.dlq")
    headers = [(name, b"other.v1" if name == "topic" else value) for name, value in letter.headers]
    shop.kafka.append("penstock.sales.dlq", b"x", headers=headers)
    assert [it.topic for it in read_letters(SALES, shop.kafka)] == [SOURCE.name]


def test_letters_of_earlier_generations_are_listed_too_each_once(shop: Shop) -> None:
    """A new generation has topics of its own, with the letters of the range that was replayed for it, and no others."""
    shop.broken(b"x")
    shop.broken(b"y")
    later = replace(SALES, launch=Launch(2, 0, None, (), ()))
    for spec in topic_specs(later, shop.settings.env)[1:]:
        shop.kafka.create_topic(spec)
    kept = shop.read("penstock.sales.dlq")[1]
    shop.kafka.append("penstock.sales.2.dlq", kept.value, headers=kept.headers)
    assert [it.value for it in read_letters(later, shop.kafka)] == [b"x", b"y"]
    shop.redrive(later)
    assert shop.origins() == ["shop.sold.v1/0/0", "shop.sold.v1/0/1"]


def test_records_are_found_where_they_are_left(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GAP", 3)
    for number in range(20):
        shop.kafka.append(SOURCE.name, str(number).encode(), partition=number % 2)
    shop.kafka.expire(SOURCE.name, 0, 2)
    reads = []
    read = shop.kafka.read
    shop.kafka.read = lambda *words, **more: reads.append(words[1:]) or read(*words, **more)  # type: ignore[method-assign,func-returns-value]
    found = originals(shop.kafka, SOURCE.name, [(0, 1), (0, 2), (0, 4), (0, 9), (1, 0), (1, 10), (5, 0)])
    assert {place: record.value for place, record in found.items()} == {
        (0, 2): b"4",
        (0, 4): b"8",
        (0, 9): b"18",
        (1, 0): b"1",
    }
    assert reads == [({0: 2, 1: 0}, {0: 5, 1: 1}), ({0: 9}, {0: 10})], "far apart ones are read apart"
    assert originals(shop.kafka, SOURCE.name, []) == {}


def test_a_place_is_partition_and_offset() -> None:
    assert parse_place("2:1041") == (2, 1041)
    for text in ("2", "2:", "a:1", "2:-1", "2:1:3"):
        with pytest.raises(DeclarationError, match=re.escape(f"{text!r} is no place of a record")):
            parse_place(text)
