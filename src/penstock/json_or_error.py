"""What the format `json-or-error` would say of a value, without Flink: the reason why it is no row, or None.

The rules are those of `infra/jars/flink-ext` (JsonOrErrorDeserializer, Field, JsonBytes), whose cases test both.
Where two things are wrong, the two may name different ones.  What is written here is stricter in one point: Python
nests less deep than the format's 1,000 levels, so a value near that limit may be refused here alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

from penstock.pipeline import Field, Topic

#: What a reason begins with, and dead letters are counted by.
KINDS = (
    "null value",
    "invalid UTF-8",
    "malformed JSON",
    "wrong type",
    "missing required field",
    "number out of range",
    "nested too deeply",
)

DEEPEST = 1_000
LONGEST_NUMBER = 1_000
#: 0001-01-01 to 9999-12-31T23:59:59.999 as epoch ms: what SQL timestamps can hold.
FIRST_TIMESTAMP, LAST_TIMESTAMP = -62_135_596_800_000, 253_402_300_799_999
#: Up to here every whole number is exact as a double.
EXACT = 2**53

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_WANTED = {
    "string": "a string",
    "boolean": "true or false",
    "long": "a whole number",
    "double": "a number",
    "timestamp_ms": "a time in epoch milliseconds",
}
_RANGES = {"long": " of 64 bits", "timestamp_ms": " of the years 1 to 9999", "double": " a double can hold"}


class _Rejected(Exception):
    """The reason, as "kind: detail"."""


class _Whole(str):
    """A number as written, without point or exponent."""


class _Fraction(str):
    """A number as written, with point or exponent."""


class _Object(tuple[tuple[str, Any], ...]):
    """An object's fields in order, those that appear twice included."""


def rejection(topic: Topic, value: bytes | None) -> str | None:
    """Return why the value is no row of the topic, as "kind: detail" in the format's words; None where it is one."""
    try:
        _fields(topic, value)
    except _Rejected as rejected:
        return str(rejected)
    return None


def fields(topic: Topic, value: bytes) -> dict[str, Any]:
    """Return the declared fields of a value that `rejection` finds nothing wrong with; absent ones are None."""
    return _fields(topic, value)


def kind_of(reason: str) -> str:
    """Return the kind of a reason: the part before the colon, by which dead letters are counted."""
    return reason.partition(":")[0]


def _fields(topic: Topic, value: bytes | None) -> dict[str, Any]:
    declared = {item.name: item for item in topic.fields}
    found: dict[str, Any] = {}
    for name, item in _parse(value):
        if name not in declared:
            continue
        if name in found:
            raise _Rejected(f"malformed JSON: field '{name}' appears twice")
        found[name] = None if item is None else _read(declared[name], item)
    for field in topic.fields:
        if not field.nullable and found.get(field.name) is None:
            raise _Rejected(f"missing required field: '{field.name}'")
    return {name: found.get(name) for name in declared}


def _parse(value: bytes | None) -> _Object:
    if value is None:
        raise _Rejected("null value: the record has no value")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise _Rejected(f"invalid UTF-8: at byte {error.start}") from None
    if not text.lstrip(" \n\r\t").startswith("{"):
        what = "not a JSON object" if text.strip(" \n\r\t") else "empty"
        raise _Rejected(f"malformed JSON: the value is {what}")
    if _depth(value) > DEEPEST:
        raise _Rejected(f"nested too deeply: more than {DEEPEST} levels")
    try:
        found = _DECODER.decode(text)
        if "\\u" in text:
            # Half a surrogate pair is no character: it could not be written out as UTF-8 again.
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise _Rejected("nested too deeply: for Python") from None
    except UnicodeEncodeError:
        raise _Rejected("malformed JSON: half a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise _Rejected(f"malformed JSON: {error.msg}: line {error.lineno}, column {error.colno}") from None
    assert isinstance(found, _Object)
    return found


def _depth(value: bytes) -> int:
    """Return how deep objects and arrays are nested, well-formed or not."""
    depth = deepest = 0
    for byte in _STRING.sub(b"", value):
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest


def _number(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if len(text.lstrip("-")) > LONGEST_NUMBER:
            raise _Rejected(f"number out of range: a number of more than {LONGEST_NUMBER} digits")
        return kind(text)

    return read


def _no_number(text: str) -> NoReturn:
    raise _Rejected(f"malformed JSON: {text} is no number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_number(_Whole), parse_float=_number(_Fraction), parse_constant=_no_number
)


def _read(field: Field, value: Any) -> Any:
    """Return the value as the field's type; nothing is converted, but 1.0 and 1e3 are whole numbers, as in JSON."""
    match field.type:
        case "string":
            return value if type(value) is str else _wrong(field, value)
        case "boolean":
            return value if isinstance(value, bool) else _wrong(field, value)
        case "double":
            if not isinstance(value, (_Whole, _Fraction)):
                _wrong(field, value)
            number = float(value)
            return number if abs(number) != float("inf") else _out_of_range(field)
    whole = _whole(field, value)
    low, high = (FIRST_TIMESTAMP, LAST_TIMESTAMP) if field.type == "timestamp_ms" else (-(2**63), 2**63 - 1)
    return whole if low <= whole <= high else _out_of_range(field)


def _whole(field: Field, value: Any) -> int:
    if isinstance(value, _Whole):
        return int(value)
    if not isinstance(value, _Fraction):
        _wrong(field, value)
    number = float(value)
    if not abs(number) <= EXACT:
        _out_of_range(field)
    return int(number) if number.is_integer() else _wrong(field, value)


def _out_of_range(field: Field) -> NoReturn:
    raise _Rejected(f"number out of range: field '{field.name}' wants {_WANTED[field.type]}{_RANGES[field.type]}")


def _wrong(field: Field, value: Any) -> NoReturn:
    names = {
        _Object: "an object",
        list: "an array",
        str: "a string",
        _Whole: "a whole number",
        _Fraction: "a fractional number",
        bool: "true or false",
    }
    raise _Rejected(f"wrong type: field '{field.name}' wants {_WANTED[field.type]}, got {names[type(value)]}")
