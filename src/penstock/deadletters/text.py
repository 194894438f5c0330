"""A value's bytes for a reader: JSON over several lines, other text with where it breaks, anything else in hex."""

from __future__ import annotations

import json
import re

#: Bytes, or characters, of a value that are shown; all of them are in the JSON output.
SHOWN = 4_000
#: Levels up to which JSON is written over several lines.
LEVELS = 40

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def shown(value: bytes | None) -> tuple[str, str]:
    """Return what the value is, in words, and the lines that show it."""
    if value is None:
        return "null", ""
    size = f"{len(value):,} bytes"
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return f"{size}, not UTF-8: broken at byte {error.start}", hexdump(value)
    try:
        json.loads(text)
    except RecursionError:
        return f"{size}, nested deeply", _short(printable(text))
    except ValueError as error:
        if not isinstance(error, json.JSONDecodeError):  # a number of very many digits
            return f"{size}, text", _short(printable(text))
        where = f"line {error.lineno}, column {error.colno}"
        return f"{size}, malformed JSON: {error.msg}: {where}", _short(printable(text)) + "\n" + _pointed(
            text, error.pos
        )
    return f"{size}, JSON", _short(printable(pretty(text)))


def pretty(text: str) -> str:
    """Write JSON over several lines, each name and number as it was: what is there twice stays there twice."""
    parts: list[str] = []
    depth, before = 0, ""
    for token in _TOKEN.findall(text):
        opened, closes = before in ("{", "["), token in ("}", "]")
        depth += opened - closes
        if depth > LEVELS:
            return text
        if before == "," or opened != closes:
            parts.append("\n" + "  " * depth)
        parts.append(": " if token == ":" else token)
        before = token
    return "".join(parts)


def hexdump(value: bytes, most: int = 512) -> str:
    """Write bytes in rows of 16: position, hex, and those that are ASCII."""
    lines = []
    for at in range(0, min(len(value), most), 16):
        row = value[at : at + 16]
        ascii_ = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row.hex(' '):47}  {ascii_}")
    return "\n".join(lines) + _more(len(value) - most, "bytes")


def printable(text: str) -> str:
    """Write control characters as escapes: a record must not speak to the reader's terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def line(value: bytes | None, most: int = 200) -> str:
    """Return a value on one line."""
    if value is None:
        return "null"
    text = printable(value.decode(errors="backslashreplace")).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= most else f"{text[:most]}... ({len(value):,} bytes)"


def _short(text: str) -> str:
    return text[:SHOWN] + _more(len(text) - SHOWN, "characters")


def _more(count: int, what: str) -> str:
    return f"\n... {count:,} more {what} (--json has all)" if count > 0 else ""


def _pointed(text: str, at: int, around: int = 40) -> str:
    """Return the text round a position, with a mark below it."""
    before = printable(text[max(0, at - around) : at]).replace("\n", " ").replace("\t", " ")
    after = printable(text[at : at + around]).replace("\n", " ").replace("\t", " ")
    return f"\n{before}{after}\n{' ' * len(before)}^"
