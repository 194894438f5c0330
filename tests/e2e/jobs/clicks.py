"""Generated clicks: the same log through a tumbling, a sliding and no window."""

from penstock import Aggregate, Datasource, Field, Hop, Pipeline, Select, Topic, Tumble

clicks = Topic(
    "web.clicked.v1",
    fields=[
        Field("user", "string"),
        Field("page", "string"),
        Field("ms", "long"),
        Field("price", "double", nullable=True),
        Field("at", "timestamp_ms"),
    ],
    event_time="at",
    out_of_orderness="5 s",
    idle_after="2 s",
    key="user",
    partitions=4,
)

tumble = Pipeline(
    "clicks_tumble",
    clicks,
    Aggregate(
        window=Tumble("10 s"),
        by=["page"],
        measures={"clicks": "COUNT(*)", "users": "COUNT(DISTINCT user)", "ms": "SUM(ms)", "price": "SUM(price)"},
    ),
    Datasource(dimensions=["page"], segment="hour"),
)

hop = Pipeline(
    "clicks_hop",
    clicks,
    Aggregate(
        window=Hop(size="1 min", slide="10 s"),
        by=["user"],
        measures={"clicks": "COUNT(*)", "slowest": "MAX(ms)"},
        where="page <> 'x'",
    ),
    Datasource(dimensions=["user"], segment="hour"),
)

raw = Pipeline(
    "clicks_raw",
    clicks,
    Select(columns=["user", "page", "ms", "at"]),
    Datasource(
        dimensions=["page"],
        measures={"ms": "SUM(ms)", "newest": "MAX(at)"},
        granularity="1 min",
        segment="hour",
    ),
)
