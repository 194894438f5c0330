"""The rules of json-or-error in Python: the cases are those of the format's own test, read from its source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from penstock import Field, Topic
from penstock.data.generator import generate
from penstock.data.load import MALFORMED, Faults, Load
from penstock.json_or_error import fields, kind_of, rejection

from ..cli import ROOT

JAVA = ROOT / "infra/jars/flink-ext/src/test/java/io/penstock/flink/format/JsonOrErrorTest.java"
TOPIC = Topic(
    "shop.sold.v1",
    fields=[
        Field("id", "string"),
        Field("at", "timestamp_ms"),
        Field("n", "long", nullable=True),
        Field("big", "long", nullable=True),
        Field("x", "double", nullable=True),
        Field("ok", "boolean", nullable=True),
    ],
    event_time="at",
)
_TEXT = r'"(?:[^"\\]|\\.)*"'
_PART = rf"{_TEXT}(?:\.repeat\([\d_]+\))?"
_VALUE = rf"{_PART}(?: \+ {_PART})*"


def _java(expression: str) -> bytes:
    """Return the bytes of a Java expression: string literals, joined by + and repeated."""
    text = eval(re.sub(r"\.repeat\(([\d_]+)\)", r" * \1", expression))
    return text.encode("utf-16", "surrogatepass").decode("utf-16").encode()


def _cases(name: str) -> Iterator[tuple[bytes, str]]:
    for value, reason in re.findall(rf"^ +{name}\(({_VALUE}), (.*?)\)[,)]", JAVA.read_text(), re.MULTILINE):
        yield _java(value), reason


GOOD = [value for value, _ in _cases("row")]
# A declaration has no whole numbers of 32 bits.
BROKEN = [(value, _java(reason).decode()) for value, reason in _cases("error") if "of 32 bits" not in reason]


def test_the_cases_were_found() -> None:
    assert len(GOOD) == 19 and len(BROKEN) == 66


@pytest.mark.parametrize("value", GOOD, ids=range(len(GOOD)))
def test_what_the_format_reads_is_sent(value: bytes) -> None:
    if value.count(b"[") == 999:
        assert rejection(TOPIC, value) == "nested too deeply: for Python"
    else:
        assert rejection(TOPIC, value) is None


@pytest.mark.parametrize(("value", "reason"), BROKEN, ids=range(len(BROKEN)))
def test_what_the_format_rejects_is_not_sent(value: bytes, reason: str) -> None:
    found = rejection(TOPIC, value)
    assert found is not None
    assert kind_of(found) == kind_of(reason)
    if kind_of(reason) in ("wrong type", "missing required field", "number out of range"):
        assert found.startswith(reason)


def test_no_value_and_other_encodings_are_rejected() -> None:
    assert rejection(TOPIC, None) == "null value: the record has no value"
    assert rejection(TOPIC, '{"id":"é","at":1}'.encode("latin-1")) == "invalid UTF-8: at byte 7"
    for encoding in ("utf-16-le", "utf-16-be", "utf-16"):
        assert rejection(TOPIC, '{"id":"a","at":1}'.encode(encoding)) is not None


def test_a_value_is_cut_off_at_any_byte() -> None:
    whole = '{"id":"é","at":12,"n":-3,"x":1.5e2,"ok":true,"u":[null,{}]}'.encode()
    assert rejection(TOPIC, whole) is None
    for length in range(len(whole)):
        assert kind_of(rejection(TOPIC, whole[:length]) or "") in ("malformed JSON", "invalid UTF-8")


def test_the_fields_are_read_as_declared() -> None:
    value = b'{"id":"a","at":1.7e12,"n":-3,"x":7,"u":{"id":"b"}}'
    expected: dict[str, Any] = {"id": "a", "at": 1_700_000_000_000, "n": -3, "big": None, "x": 7.0, "ok": None}
    assert fields(TOPIC, value) == expected


def test_generated_records_are_told_apart() -> None:
    """Every malformed one by its kind, every other one as good."""
    load = Load(3_000, seed=4, faults=Faults(late=0.1, malformed=0.2, too_early=0.1, duplicate=0.1))
    kinds = set()
    for event in generate(TOPIC, load):
        found = rejection(TOPIC, event.value)
        assert (found and kind_of(found)) == MALFORMED.get(event.kind), event.value
        kinds.add(event.kind)
    assert kinds >= set(MALFORMED)
