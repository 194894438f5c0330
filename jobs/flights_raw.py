"""Every departure, rolled up in Druid to one row an hour, airport and carrier."""

from _flights import departures
from penstock import Datasource, Pipeline, Select

pipeline = Pipeline(
    "flights_raw",
    source=departures,
    transform=Select(columns=["origin", "carrier", "departed_at", "delay_min", "distance_mi"]),
    sink=Datasource(
        dimensions=["origin", "carrier"],
        measures={
            "delay_min_sum": "SUM(delay_min)",
            "delay_min_max": "MAX(delay_min)",
            "distance_mi_sum": "SUM(distance_mi)",
        },
        granularity="1 h",
        segment="day",
    ),
)
