"""A proxy in front of one service's REST API that lets nobody in without the name and password."""

from __future__ import annotations

from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx

NAME, PASSWORD = "operator", "right"


class Proxy:
    """Listens on a port of this machine until it is closed."""

    def __init__(self, target: str) -> None:
        allowed = "Basic " + b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
        client = httpx.Client(base_url=target, timeout=120, trust_env=False)

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Authorization") != allowed:
                    self._send(401, b'{"error": "no such user"}', "application/json")
                    return
                kind = self.headers.get("Content-Type") or "application/json"
                got = client.request(self.command, self.path, content=body, headers={"Content-Type": kind})
                self._send(got.status_code, got.content, got.headers.get("Content-Type", kind))

            def _send(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_DELETE = _answer

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, daemon=True).start()

    def address(self) -> str:
        """Return its address, with places for the connection's own name and password."""
        return f"http://${{login}}:${{password}}@127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
