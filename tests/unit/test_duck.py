"""The database of the oracle and the ledger keeps to a share of the memory, and puts the rest on disk where it may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock import duck


def test_what_does_not_fit_goes_to_the_directory_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    monkeypatch.chdir(closed)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with duck.connect() as connection:
        connection.execute("SET memory_limit = '60MB'")
        connection.execute(
            "CREATE TABLE wide AS SELECT range AS n, repeat(range::VARCHAR, 40) AS text FROM range(400000)"
        )
        ((count,),) = connection.execute("SELECT count(*) FROM wide").fetchall()
        assert count == 400_000
        (spilled,) = tmp_path.glob("penstock-duckdb-*")
        assert any(spilled.iterdir()) and not os.listdir(closed)
    assert not spilled.exists()


def test_two_databases_share_no_file() -> None:
    with duck.connect() as one, duck.connect() as other:
        places = [it.execute("SELECT current_setting('temp_directory')").fetchall() for it in (one, other)]
    assert places[0] != places[1]


def test_its_share_leaves_room_for_the_process_around_it() -> None:
    with duck.connect() as connection:
        ((limit,),) = connection.execute("SELECT current_setting('memory_limit')").fetchall()
        connection.execute("SET memory_limit = '100%'")
        ((whole,),) = connection.execute("SELECT current_setting('memory_limit')").fetchall()
    number, unit = str(limit).split()
    assert unit == str(whole).split()[1] and float(number) < 0.5 * float(str(whole).split()[0])
