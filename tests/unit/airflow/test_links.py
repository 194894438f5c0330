"""Links lead to where a browser finds the pages, which in containers is not where a task finds the services."""

from __future__ import annotations

from penstock.airflow import links
from penstock.settings import DruidSettings, Environment, FlinkSettings


def test_links_lead_to_the_address_for_browsers_and_without_one_to_the_services() -> None:
    flink, druid = FlinkSettings(rest="http://flink:8081"), DruidSettings(coordinator="http://a:b@druid:8081")
    inside = Environment(name="x", flink=flink, druid=druid)
    assert links.flink_job(inside, "7").startswith("http://flink:8081/#/job/running/7/")
    assert links.druid_task(inside, "t").startswith("http://druid:8081/")
    outside = Environment(
        name="x",
        flink=flink.model_copy(update={"web": "http://127.0.0.1:29081"}),
        druid=druid.model_copy(update={"web": "http://127.0.0.1:29090"}),
    )
    assert links.flink_job(outside, "7").startswith("http://127.0.0.1:29081/#/job/running/7/")
    assert links.supervisor(outside, "s").startswith("http://127.0.0.1:29090/")
    assert links.druid_task(outside, "t").startswith("http://127.0.0.1:29090/")
