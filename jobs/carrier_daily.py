"""Flights, punctuality and distance of each carrier by (UTC) day."""

from _flights import departures
from penstock import Aggregate, Datasource, Pipeline, Tumble

pipeline = Pipeline(
    "carrier_daily",
    source=departures,
    transform=Aggregate(
        window=Tumble(size="1 d"),
        by=["carrier"],
        measures={
            "flights": "COUNT(*)",
            "delayed": "SUM(CASE WHEN delay_min > 15 THEN 1 ELSE 0 END)",
            "delay_min_sum": "SUM(delay_min)",
            "distance_mi_sum": "SUM(distance_mi)",
            "destinations": "COUNT(DISTINCT dest)",
        },
    ),
    sink=Datasource(dimensions=["carrier"], segment="month"),
)
