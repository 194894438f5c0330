"""Orders and turnover of each country, minute by minute."""

from penstock import Aggregate, Datasource, Field, Pipeline, Topic, Tumble

orders = Topic(
    "shop.ordered.v1",
    fields=[
        Field("order_id", "string"),
        Field("country", "string"),
        Field("ordered_at", "timestamp_ms"),
        Field("cents", "long"),
    ],
    event_time="ordered_at",
    out_of_orderness="30 s",
    key="order_id",
    retention="30 d",
)

pipeline = Pipeline(
    "orders_by_minute",
    source=orders,
    transform=Aggregate(
        window=Tumble(size="1 min"),
        by=["country"],
        measures={"orders": "COUNT(*)", "cents": "SUM(cents)"},
    ),
    sink=Datasource(dimensions=["country"], segment="hour"),
    repair="nightly",  # when late orders are counted after all; "after 10 min", "hourly", "never"
    description="Orders and turnover of each country, minute by minute.",
)
