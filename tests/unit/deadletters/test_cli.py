"""The verbs as a user meets them, over services in memory: what is printed, and exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock import cli
from penstock.cli.context import Context

from .shop import GOOD, Shop

Run = Callable[..., tuple[int, str, str]]
FIXES = """
def mend(letter):
    return {"id": "b", "at": 5, "price": letter.offset} if letter.offset else None

def wrong(letter):
    return {"id": letter.offset}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def run(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "fixes.py").write_text(FIXES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Context, "settings", shop.settings)
    monkeypatch.setattr(Context, "services", shop.services())
    declared = {pipeline.name: pipeline for pipeline in shop.pipelines}
    monkeypatch.setattr(
        Context, "pipelines", lambda _, names=(): [declared[name] for name in names] or list(declared.values())
    )

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["penstock", "dlq", *words])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as left:
            code = left.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return call


def test_an_empty_topic_has_nothing_to_list_or_to_send(run: Run) -> None:
    assert run("list", "sales")[:2] == (0, "sales: 0 dead letters of shop.sold.v1, 0 of them redriven\n")
    assert run("redrive", "sales")[:2] == (0, "nothing to do: sales has no such dead letters\n")


def test_letters_are_listed_shown_and_sent_back(shop: Shop, run: Run) -> None:
    for value in (b"{}", b'{"id":5}', b"\xff"):
        shop.broken(value, key=b"k")
    code, out, _ = run("redrive", "sales", "--fix", "fixes.py:mend", "--dry-run")
    assert code == 0
    assert '  - {"id":5}\n  + {"id":"b","at":5,"price":1}\n' in out
    assert "dry run: 2 of 3 dead letters would go back to shop.sold.v1" in out and "1 left dead" in out
    code, out, _ = run("redrive", "sales", "--fix", "fixes.py:mend")
    assert code == 0
    assert "2 of 3 dead letters went back to shop.sold.v1 (event times 1970-01-01T00:00:00Z to 1970" in out
    assert "are late, until they are replayed: `penstock repair sales`" in out
    _, out, _ = run("list", "sales_raw", "--json")
    found = json.loads(out)
    assert (found["letters"], found["redriven"], len(found["reasons"])) == (3, 2, 3)
    _, out, _ = run("list", "sales_raw")
    assert "wrong type                    1         1  1970-01-01T00:00:01Z  1970-01-01T00:00:01Z  0:1" in out
    assert out.endswith("sales_raw: 3 dead letters of shop.sold.v1, 2 of them redriven\n")
    code, out, _ = run("show", "sales_raw", "0:1")
    assert "redriven     2" in out and "for sales with fixes.py:mend" in out
    assert "key          k\n" in out and '{\n  "id": 5\n}' in out
    shop.kafka.expire("shop.sold.v1", 0, 2)
    assert "the log no longer has the record" in run("show", "sales_raw", "0:1")[1]
    _, out, _ = run("show", "sales", "0:2", "--json")
    assert json.loads(out)["value_base64"] == "/w=="
    assert "nothing to do: all 1 asked for were redriven already" in run("redrive", "sales_raw", "--record", "0:1")[1]


def test_single_letters_are_listed(shop: Shop, run: Run) -> None:
    for value in (b"{}", b"x", b"y"):
        shop.broken(value)
    _, out, err = run("list", "sales", "--each", "--reason", "malformed JSON", "--limit", "1", "--json")
    assert [it["record"] for it in json.loads(out)] == ["0:1"]
    _, out, err = run("list", "sales", "--each")
    assert "0:2" in out and "malformed JSON: the value is not a JSON object" in out
    assert err.endswith("3 dead letters\n")


def test_what_is_held_back_is_told_and_fails(shop: Shop, run: Run) -> None:
    for value in (b"{}", b"x", GOOD):
        shop.broken(value)
    code, out, err = run("redrive", "sales", "--fix", "fixes.py:wrong")
    assert code == 1
    assert "unfit           3  0:0      wrong type: field 'id' wants a string, got a whole number" in out
    assert "error: 3 dead letters were held back" in err
    code, out, _ = run("redrive", "sales", "--json")
    found = json.loads(out)
    assert (code, found["counts"], [it["to"] for it in found["records"]]) == (
        1,
        {"unfit": 2, "sent": 1},
        [None, None, "0:3"],
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["redrive", "sales", "--reason", "broken"], "--reason 'broken': no such kind"),
        (["redrive", "sales", "--allow", "externals"], "--allow externals: no such flag"),
        (["redrive", "sales", "--fix", "fixes.py"], "--fix 'fixes.py': it is PATH.py:FUNCTION or MODULE:FUNCTION"),
        (["redrive", "sales", "--record", "0.1"], "'0.1' is no place of a record"),
        (["show", "sales", "0:1"], "sales has no dead letter of shop.sold.v1 at 0:1"),
    ],
)
def test_mistakes_are_told(words: list[str], message: str, run: Run) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert message in err
