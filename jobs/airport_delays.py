"""Rolling departure delay per airport: the last hour, every five minutes."""

from _flights import departures
from penstock import Aggregate, Datasource, Hop, Pipeline

pipeline = Pipeline(
    "airport_delays",
    source=departures,
    transform=Aggregate(
        window=Hop(size="1 h", slide="5 min"),
        by=["origin"],
        measures={"flights": "COUNT(*)", "delay_min_sum": "SUM(delay_min)", "delay_min_max": "MAX(delay_min)"},
    ),
    sink=Datasource(dimensions=["origin"], segment="day"),
    repair="hourly",
)
