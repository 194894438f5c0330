"""One HTTP client for the services' REST APIs: an address that does not answer, and an answer that is an error, are one
clear message each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

from penstock.errors import DeclarationError, PenstockError, UnavailableError

#: Seconds to wait for a connection.
CONNECT = 3.0

#: Answers that another try with the same name and password would only repeat.
FORBIDDEN = (401, 403)

HINT = "is the stack up?  `penstock status` shows it, `penstock up` starts it"


def is_loopback(url: str) -> bool:
    """True for an address of this machine, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def shown(url: str) -> str:
    """Return the address without the name and password that it may hold: for messages and links."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


class Http:
    """Requests to one service.  `reason` turns the text of an error answer into one line.

    A name and password in `url` (`http://name:password@host`) are sent with each request, and never shown.
    """

    def __init__(
        self,
        name: str,
        url: str,
        reason: Callable[[str], str],
        *,
        timeout: float = 30,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.name = name
        self.url = shown(url)
        self._reason = reason
        self._timeout = timeout
        self._client = httpx.Client(
            base_url=url.rstrip("/"),
            timeout=httpx.Timeout(timeout, connect=CONNECT),
            transport=transport,
            trust_env=not is_loopback(url),
        )

    def close(self) -> None:
        self._client.close()

    def request(self, method: str, path: str, *, missing: Any = None, **more: Any) -> Any:
        """Send one request and return the decoded JSON (None for an empty answer).

        `missing` is returned for 404 where that is no error.  Raises UnavailableError where the service does not answer
        or fails (5xx), DeclarationError where it knows no such user, PenstockError where it refuses.
        """
        try:
            answer = self._client.request(method, path, **more)
        except httpx.TimeoutException as error:
            seconds = CONNECT if isinstance(error, httpx.ConnectTimeout) else self._timeout
            message = f"{self.name} gave no answer at {self.url} in {seconds:g} s ({method} {path})"
            raise UnavailableError(message, hint=HINT) from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"{self.name} does not answer at {self.url}: {reason}", hint=HINT) from error
        if answer.status_code == 404 and missing is not None:
            return missing
        if answer.is_error:
            self._refuse(method, path, answer)
        try:
            return answer.json() if answer.content else None
        except ValueError:
            message = f"{self.name} at {self.url} gave no JSON for {path}: {answer.text[:100]!r}"
            raise UnavailableError(message, hint="does something else listen on its port?") from None

    def _refuse(self, method: str, path: str, answer: httpx.Response) -> NoReturn:
        text = answer.text.strip()
        reason = (self._reason(text) if text else "") or answer.reason_phrase
        if answer.status_code >= 500:
            message = f"{self.name} at {self.url} failed ({answer.status_code} for {method} {path}): {reason}"
            raise UnavailableError(message, hint=HINT)
        message = f"{self.name} at {self.url} refused {method} {path} ({answer.status_code}): {reason}"
        if answer.status_code in FORBIDDEN:
            hint = "check the name and password of its address, in penstock.toml or in Airflow's connection"
            raise DeclarationError(message, hint=hint)
        raise PenstockError(message)
