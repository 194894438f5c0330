"""What each service's client says of an address that refuses the user; and that no secret is in what it says."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from penstock.airflow.links import flink_job
from penstock.errors import DeclarationError, PenstockError, UnavailableError
from penstock.services.druid import Druid
from penstock.services.flink import Flink
from penstock.services.http import shown
from penstock.settings import DruidSettings, Environment, FlinkSettings

ADDRESS = "http://operator:s3cret@127.0.0.1:9/flink/"


def flink(status: int) -> tuple[Flink, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, text="no", request=request)

    return Flink(FlinkSettings(rest=ADDRESS), transport=httpx.MockTransport(answer)), asked


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_user_is_a_mistake_and_no_other_try_is_worth_it(status: int) -> None:
    client, asked = flink(status)
    with pytest.raises(DeclarationError) as caught:
        client.overview()
    assert str(caught.value).splitlines()[0] == (
        f"Flink at http://127.0.0.1:9/flink refused GET /overview ({status}): no"
    )
    assert "name and password" in str(caught.value)
    assert str(asked[0].url) == "http://operator:s3cret@127.0.0.1:9/flink/overview"
    assert asked[0].headers["authorization"] == httpx.BasicAuth("operator", "s3cret")._auth_header


def test_another_refusal_is_none_of_the_declarations() -> None:
    with pytest.raises(PenstockError, match=r"\(409\): no") as caught:
        flink(409)[0].overview()
    assert not isinstance(caught.value, DeclarationError)


@pytest.mark.parametrize("body", [b'{"error": "no such user"}', b"<html>401 Authorization Required</html>"])
def test_a_brokers_refusal_is_told_whoever_answers_for_it(body: bytes) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    Thread(target=server.serve_forever, daemon=True).start()
    druid = Druid(DruidSettings(broker=f"http://operator:s3cret@127.0.0.1:{server.server_port}"))
    with pytest.raises(DeclarationError, match=r"Druid's broker at .* refused POST /druid/v2/sql/ \(401\)") as caught:
        druid.sql("SELECT 1")
    assert "s3cret" not in str(caught.value)
    server.shutdown()


def test_no_message_and_no_link_shows_the_password() -> None:
    druid = Druid(DruidSettings(broker=ADDRESS, coordinator=ADDRESS))
    for ask in (Flink(FlinkSettings(rest=ADDRESS)).overview, druid.supervisors, lambda: druid.sql("SELECT 1")):
        with pytest.raises(UnavailableError) as caught:
            ask()
        assert "s3cret" not in str(caught.value), str(caught.value)
    link = flink_job(Environment(name="native", flink=FlinkSettings(rest=ADDRESS)), "j1")
    assert link == "http://127.0.0.1:9/flink/#/job/running/j1/overview"
    assert shown("https://broker:8888/") == "https://broker:8888"
