"""One small pipeline: visits of pages, counted every ten seconds."""

from penstock import Aggregate, Datasource, Field, Pipeline, Topic, Tumble

visits = Topic(
    "web.visited.v1",
    fields=[Field("user", "string"), Field("page", "string"), Field("at", "timestamp_ms")],
    event_time="at",
    out_of_orderness="5 s",
    idle_after="2 s",
    key="user",
    partitions=2,
)

pipeline = Pipeline(
    "visits",
    visits,
    Aggregate(window=Tumble("10 s"), by=["page"], measures={"visits": "COUNT(*)"}, where="page <> 'x'"),
    Datasource(dimensions=["page"], segment="hour"),
)
