"""Every example of docs/airflow.md is run to its end, on a month of real flights."""

from __future__ import annotations

import pytest

from penstock.settings import Settings

from ..cli import Cli
from ..dag_runs import Airflow
from .shipped import EXAMPLES, ship

pytestmark = [pytest.mark.e2e, pytest.mark.native]

NAME = "carrier_daily"
#: Flights up to the first days of February, so that January's windows are closed.
FLIGHTS = 29_000


@pytest.fixture(scope="module")
def lived(stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """The shipped project, made by its own DAG, with the flights in it and the examples beside its DAGs."""
    cli: Cli = ship(stack, tmp_path_factory.mktemp("shipped"))
    for number, text in enumerate(EXAMPLES):
        (cli.project / f"dags/example{number}.py").write_text(text, encoding="utf-8")
    made = Airflow(cli, tmp_path_factory.mktemp("airflow"))
    made.migrate()
    done = made.run("penstock_pipelines.py", f"penstock.{NAME}", "2026-01-01T00:00")
    assert done["state"] == "success", done["log"][-3000:]
    cli.run("produce", "flights", "--limit", str(FLIGHTS))
    (ledger,) = cli.verify(NAME)
    assert ledger["equal"], ledger["differences"]
    return made


@pytest.mark.timeout(900)
def test_the_operators_in_a_row(lived: Airflow) -> None:
    for at in ("2026-01-01T01:00", "2026-01-01T01:00"):  # and once more, cleared
        done = lived.run("example0.py", "example", at)
        assert done["state"] == "success", done["log"][-3000:]
        assert set(done["tasks"].values()) == {"success"}
        assert "published and checked" in done["values"]["receipt.return_value"]
        assert done["values"]["verify.return_value"]["rows_compared"] > 0
    assert "stopped" in lived.cli.run("status", NAME)


def test_a_report_of_ones_own(lived: Airflow) -> None:
    done = lived.run("example1.py", "my_report", "2026-01-01T02:00")
    assert (done["state"], done["values"]["render.return_value"]) == ("success", "the figures have changed")
