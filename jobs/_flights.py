"""The topic that the flight pipelines share: departures from New York's three airports, as they are reported."""

from penstock import Field, Topic

departures = Topic(
    "flights.departed.v1",
    fields=[
        Field("flight_id", "string"),
        Field("origin", "string"),
        Field("dest", "string"),
        Field("carrier", "string"),
        Field("tailnum", "string", nullable=True),
        Field("scheduled_at", "timestamp_ms"),
        Field("departed_at", "timestamp_ms"),
        Field("delay_min", "long", nullable=True),
        Field("distance_mi", "long"),
    ],
    event_time="departed_at",
    out_of_orderness="30 min",
    key="carrier",
    idle_after="5 min",
    partitions=4,
    retention="90 d",
)
