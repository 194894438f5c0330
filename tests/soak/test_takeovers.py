"""Changed logic takes over while events go on arriving, late ones too; and what of it is refused, or taken back.

With windows (here sliding ones) and without: what the new version has is the oracle's, and no record is lost.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.replay.scope import utc
from penstock.services.flink import local
from penstock.services.protocols import Services, connect
from penstock.services.registry import Record
from penstock.settings import load_settings
from penstock.wait import Pending, until

from ..cli import Cli
from ..e2e.test_replay import HOUR, _expected, _pipeline, _served
from ..e2e.test_upgrade import changed, events
from .test_replay_ranges import BEFORE, START, STEP_MS, Sender

pytestmark = [pytest.mark.e2e, pytest.mark.native, pytest.mark.timeout(1800)]

TUMBLE = '"price": "SUM(price)"},\n    ),'


def where(condition: str) -> tuple[str, str]:
    """Return the edit that gives the tumbling windows a condition, which leaves their state what it is."""
    return TUMBLE, TUMBLE.replace("\n    ),", f'\n        where="{condition}",\n    ),')


@pytest.fixture(scope="module")
def arriving(shop: Cli) -> Iterator[Sender]:
    """Three hours of clicks with every kind of fault, and then 50 a second, until the last test has ended."""
    shop.run("apply")
    shop.produce(BEFORE, late=0.05, malformed=0.01, too_early=0.001, seed=31, start=utc(START), step=STEP_MS)
    for ledger in shop.verify():
        assert ledger["equal"], ledger["differences"]
    sender = Sender(shop, _pipeline(shop, "clicks_raw").source)
    thread = threading.Thread(target=sender.run, daemon=True)
    sender.flowing.set()
    thread.start()
    try:
        yield sender
    finally:
        sender.end(thread)


def services(shop: Cli) -> Services:
    return connect(load_settings(shop.project, environ=shop.environ))


def recorded(shop: Cli, name: str) -> Record:
    return services(shop).registry.read()[name]


def equal(shop: Cli, name: str) -> None:
    (ledger,) = shop.verify(name)
    assert ledger["equal"], ledger["differences"]


def test_a_start_from_a_checkpoint_older_than_a_receipts_is_refused(arriving: Sender, tmp_path: Path) -> None:
    shop, flink = arriving.shop, services(arriving.shop).flink
    job, kept = recorded(shop, "clicks_tumble").job_id, tmp_path / "kept"
    state = local(f"{shop.stack.env.flink.state}/checkpoints/{job}")
    assert state is not None

    def copied() -> Path | Pending:
        newest = flink.latest_checkpoint(job)
        folder = local(newest[1]) if newest else None
        if newest is None or folder is None:
            return Pending("no checkpoint yet")
        try:
            return Path(shutil.copytree(folder, tmp_path / f"{len(list(tmp_path.iterdir()))}" / folder.name))
        except (FileNotFoundError, shutil.Error):
            return Pending("subsumed while it was copied")

    older = until("an older checkpoint", copied, timeout=60)
    words = ("--from", utc(START), "--to", utc(START + HOUR), "--json")
    receipt = json.loads(shop.run("replay", "clicks_tumble", *words, timeout=900))
    assert int(older.name.removeprefix("chk-")) < receipt["settled"]["checkpoint"]
    flink.cancel(job)
    shutil.copytree(state, kept)
    for folder in state.glob("chk-*"):
        shutil.rmtree(folder)
    shutil.copytree(older, state / older.name)
    new = changed(shop, tmp_path / "new", where("page <> 'nowhere'"))
    for verb in (shop.call("apply"), shop.call("start", "clicks_tumble"), new.call("upgrade", "clicks_tumble")):
        assert verb.returncode == 3, verb.stderr
        assert f"{older.name} is older than replay {receipt['id']}" in " ".join(verb.stderr.split()), verb.stderr
    assert [it.name for it in flink.jobs() if it.live and it.name.endswith("clicks_tumble")] == []
    shutil.rmtree(state)
    shutil.copytree(kept, state)
    assert "resumes from chk-" in shop.run("start", "clicks_tumble")
    equal(shop, "clicks_tumble")


def test_a_version_that_fails_before_its_first_checkpoint_is_taken_back(arriving: Sender, tmp_path: Path) -> None:
    shop = arriving.shop
    old = recorded(shop, "clicks_tumble")
    # No page is TRUE or FALSE, so that its first record makes the job fail.
    bad = changed(shop, tmp_path, where("page = TRUE"))
    file = bad.project / "penstock.toml"
    # Else a checkpoint may come before the first record.
    file.write_text(file.read_text().replace("checkpoint_interval = 1.0", "checkpoint_interval = 600.0"))
    failed = bad.call("upgrade", "clicks_tumble", "--timeout", "60")
    assert failed.returncode == 1, failed.stderr
    told = " ".join(failed.stderr.split())
    assert f"it had committed nothing: version {old.version} runs again, from the same savepoint" in told
    now = recorded(shop, "clicks_tumble")
    assert (now.version, now.status, now.run) == (old.version, "running", old.run + 2)
    assert f"savepoint-{old.job_id[:6]}-" in str(now.restore)
    shop.run("apply")  # its checkpoints every second again
    equal(shop, "clicks_tumble")


def test_upgraded_again_a_job_that_ended_goes_on_from_its_newest_checkpoint(arriving: Sender, tmp_path: Path) -> None:
    shop, flink = arriving.shop, services(arriving.shop).flink
    new = changed(shop, tmp_path, where("page <> 'nowhere'"))
    assert "goes on where" in new.run("upgrade", "clicks_tumble")
    made = recorded(shop, "clicks_tumble")
    flink.cancel(made.job_id)
    assert "it ended: resumes from chk-" in new.run("upgrade", "clicks_tumble")
    now = recorded(shop, "clicks_tumble")
    assert (now.version, now.run) == (made.version, made.run + 1)
    assert f"/{made.job_id}/chk-" in str(now.restore)
    assert "nothing to do" in new.run("upgrade", "clicks_tumble")
    equal(new, "clicks_tumble")


EDITS = {
    "clicks_hop": ("where=\"page <> 'x'\"", "where=\"page <> 'page-1'\""),
    "clicks_raw": (
        'Select(columns=["user", "page", "ms", "at"])',
        'Select(columns=["page", "ms", "at"], where="ms > 100")',
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_new_version_takes_over_while_events_arrive(arriving: Sender, name: str, tmp_path: Path) -> None:
    shop, since = arriving.shop, START + HOUR
    new = changed(shop, tmp_path, EDITS[name])
    made = _pipeline(new, name)
    before, sent = _served(shop, _pipeline(shop, name)), arriving.number
    # Late events of the hours before stay uncounted: those hours are to be as they were.
    words = ("--replay-from", utc(since), "--allow", "unhealed", "--reason", "some clicks are none", "--json")
    receipt = json.loads(new.run("upgrade", name, *words, timeout=900))
    assert (receipt["status"], receipt["generation"]) == ("done", 1)
    assert arriving.number > sent + 100, "events arrived meanwhile"
    sent = arriving.number

    def more() -> bool | Pending:
        return arriving.number > sent + 500 or Pending(f"{arriving.number - sent} events")

    until("events for the new job alone", more, timeout=60)
    arriving.flowing.clear()
    try:
        (ledger,) = new.verify(name)
        assert ledger["equal"], ledger["differences"]
        assert events(_served(new, made)) > 0
        now, high = _served(new, made), {int(at): offset for at, offset in receipt["cut"]["high"].items()}
        windowed = name == "clicks_hop"
        end = receipt["asked"]["wide_end"] if windowed else 2**53
        expected = _expected(new, made, high if windowed else None)
        assert {at: rows for at, rows in now.items() if since <= at < end} == {
            at: rows for at, rows in expected.items() if since <= at < end
        }
        assert any(at >= receipt["asked"]["wide_end"] for at in now), "the new job's own"
        if windowed:
            assert {at: rows for at, rows in now.items() if at < since} == {
                at: rows for at, rows in before.items() if at < since
            }
    finally:
        arriving.flowing.set()
    assert "nothing to do" in new.run("upgrade", name)
