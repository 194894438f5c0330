"""Portable SQL expressions: the subset that means the same in Flink, DuckDB and (for roll-up) Druid.

An expression is read into tokens, checked against the subset, and written again for a dialect with every field name
quoted, so that a field may be called `value` or `order`.  DuckDB binds it to the fields and tells its type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from penstock.pipeline import DUCKDB_TYPES, Field

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<op><>|!=|<=|>=|[-+*(),<>=]))"
)
AGGREGATES = frozenset({"COUNT", "SUM", "MIN", "MAX"})
#: Not UPPER and LOWER: of "ß" DuckDB makes "ẞ" and Java "SS".
FUNCTIONS = AGGREGATES | {"COALESCE", "ABS"}
KEYWORDS = frozenset(
    [
        "CASE",
        "WHEN",
        "THEN",
        "ELSE",
        "END",
        "AND",
        "OR",
        "NOT",
        "IS",
        "NULL",
        "IN",
        "BETWEEN",
        "LIKE",
        "TRUE",
        "FALSE",
        "DISTINCT",
    ]
)
_RESULT_TYPES = {
    "HUGEINT": "long",
    "BIGINT": "long",
    "INTEGER": "long",
    "DOUBLE": "double",
    "VARCHAR": "string",
    "BOOLEAN": "boolean",
}


@dataclass(frozen=True)
class Dialect:
    """How a dialect quotes names and writes a whole number so that arithmetic on it is 64 bits wide."""

    quote: str
    integer: str

    def name(self, name: str) -> str:
        return f"{self.quote}{name}{self.quote}"


FLINK = Dialect("`", "CAST({} AS BIGINT)")
DUCKDB = Dialect('"', "{}::BIGINT")


class ExpressionError(ValueError):
    """An expression outside the portable subset; the text says which part and why."""


def _tokens(expression: str) -> Iterable[tuple[str, str]]:
    position = 0
    text = expression.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            rest = text[position:].strip()
            if rest.startswith("/"):
                raise ExpressionError(
                    "'/' differs between engines: keep the sum and the count, and divide in the query"
                )
            raise ExpressionError(f"can't read {rest[:20]!r}")
        position = match.end()
        kind = match.lastgroup or ""
        yield kind, match[kind]


def render(expression: str, fields: Iterable[str], dialect: Dialect) -> str:
    """Write `expression` for a dialect; raise ExpressionError where it leaves the portable subset."""
    known = set(fields)
    words: list[str] = []
    tokens = list(_tokens(expression))
    for index, (kind, text) in enumerate(tokens):
        upper = text.upper()
        called = tokens[index + 1][1] == "(" if index + 1 < len(tokens) else False
        if kind == "name" and called and upper not in KEYWORDS:
            if upper not in FUNCTIONS:
                raise ExpressionError(f"{upper} is not one of the portable functions {', '.join(sorted(FUNCTIONS))}")
            words.append(upper)
        elif kind == "name" and text in known:
            words.append(dialect.name(text))
        elif kind == "name" and upper in KEYWORDS:
            words.append(upper)
        elif kind == "name":
            raise ExpressionError(f"there is no field {text!r}; there are {', '.join(sorted(known))}")
        elif kind == "number" and "." not in text:
            words.append(dialect.integer.format(text))
        else:
            words.append("<>" if text == "!=" else text)
    if not words:
        raise ExpressionError("it is empty")
    text = " ".join(words).replace("( ", "(").replace(" )", ")").replace(" ,", ",")
    return re.sub(rf"\b({'|'.join(FUNCTIONS)}) \(", r"\1(", text)


@cache
def _bound_type(expression: str, fields: tuple[tuple[str, str], ...]) -> str:
    import duckdb

    columns = ", ".join(f'"{name}" {DUCKDB_TYPES[kind]}' for name, kind in fields)
    text = render(expression, [name for name, _ in fields], DUCKDB)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE source ({columns})")
        try:
            row = connection.execute(f"DESCRIBE SELECT {text} AS x FROM source").fetchone()
        except duckdb.Error as error:
            raise ExpressionError(str(error).splitlines()[0]) from None
    assert row is not None
    kind = str(row[1])
    return _RESULT_TYPES.get(kind, "double" if kind.startswith("DECIMAL") else kind)


def type_of(expression: str, fields: Iterable[Field]) -> str:
    """Return the field type of an expression; raise ExpressionError where it can't be bound to the fields."""
    return _bound_type(expression, tuple((item.name, item.type) for item in fields))


def is_aggregate(expression: str) -> bool:
    """Tell whether the expression calls an aggregate function."""
    return any(kind == "name" and text.upper() in AGGREGATES for kind, text in _tokens(expression))


_SIMPLE = re.compile(r"\s*(SUM|MIN|MAX)\s*\(\s*([A-Za-z_]\w*)\s*\)\s*", re.IGNORECASE)


def simple_aggregate(expression: str) -> tuple[str, str] | None:
    """Return ("SUM", "field") for an aggregate that Druid's roll-up can hold; None for any other."""
    match = _SIMPLE.fullmatch(expression)
    return (match[1].upper(), match[2]) if match else None


def measure_types(measures: Mapping[str, str], fields: Iterable[Field]) -> dict[str, str]:
    """Return the field type of every measure."""
    fields = list(fields)
    return {name: type_of(expression, fields) for name, expression in measures.items()}
