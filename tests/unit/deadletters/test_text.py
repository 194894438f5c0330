"""Bytes are shown as what they are: JSON as it was written, other text with where it breaks, anything else in hex."""

from __future__ import annotations

import json

import pytest

from penstock.deadletters.text import hexdump, line, pretty, shown


def test_json_is_spread_out_as_it_was_written() -> None:
    text = '{"a":{"b":[],"c":{},"d":[1,{"e":"x: {[,]}\\" "}]},"a":1e999}'
    assert pretty(text) == (
        '{\n  "a": {\n    "b": [],\n    "c": {},\n    "d": [\n      1,\n      {\n        "e": "x: {[,]}\\" "\n      }\n'
        "    ]\n"
        '  },\n  "a": 1e999\n}'
    )
    assert json.loads(pretty(text)) == json.loads(text)
    assert pretty("[" * 60 + "]" * 60) == "[" * 60 + "]" * 60, "too deep to spread"
    assert shown(b'{"a":1}') == ("7 bytes, JSON", '{\n  "a": 1\n}')


def test_malformed_json_is_shown_with_where_it_breaks() -> None:
    what, lines = shown(b'{"id": "b", "at": oops}')
    assert what == "23 bytes, malformed JSON: Expecting value: line 1, column 19"
    whole, excerpt, mark = [it for it in lines.split("\n") if it]
    assert whole == excerpt == '{"id": "b", "at": oops}'
    assert excerpt[len(mark) - 1 :] == "oops}"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "null"),
        (b"", "0 bytes, malformed JSON: Expecting value: line 1, column 1"),
        (b"ab\xff", "3 bytes, not UTF-8: broken at byte 2"),
        (b"[" * 100_000, "100,000 bytes, nested deeply"),
        (b"1" * 5_000, "5,000 bytes, text"),
    ],
)
def test_any_value_is_shown(value: bytes | None, what: str) -> None:
    assert shown(value)[0] == what
    assert len(shown(value)[1]) < 5_000


def test_bytes_are_shown_in_hex() -> None:
    assert hexdump(b'{"a":"\xff"}\n').split("\n") == [
        '00000000  7b 22 61 22 3a 22 ff 22 7d 0a                    {"a":"."}.'
    ]
    dump = hexdump(bytes(600)).split("\n")
    assert len(dump) == 512 / 16 + 1
    assert dump[-1] == "... 88 more bytes (--json has all)"


def test_a_record_does_not_speak_to_the_terminal() -> None:
    assert line(b"\x1b[31mred\n\xff") == "\\x1b[31mred\\n\\xff"
    assert "\x1b" not in shown(b'{"a": "\x1b[31m"')[1]
    assert line(b"x" * 500) == "x" * 200 + "... (500 bytes)"
