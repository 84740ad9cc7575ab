"""Sending one request, once: what came of it decides what is accounted for.

Plain ``httpx``, whose clients retry nothing by themselves. A refusal (a status from 400 to 499) and a
connection that was never made cost nothing. Everything else that is not an answer may have been billed.
"""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from modelmill.errors import ConfigError
from modelmill.language_models.dialects import Request, read_json
from modelmill.language_models.endpoint import Endpoint

if TYPE_CHECKING:
    import httpx

Kind = Literal["answered", "busy", "lost", "unsent", "rejected"]
"""``busy``: asked to come later (429); ``lost``: may have been billed, and no answer came; ``unsent``: no
connection; ``rejected``: the endpoint does not take this request."""

_LATER = (429,)
_LOST = (408, 425)
_MOST_BYTES = 4_000_000
"""Of a response: an answer has some hundred."""


@dataclass(frozen=True)
class Outcome:
    """What came of one request."""

    kind: Kind
    body: bytes = b""
    """Of an answer."""
    retry_after: float | None = None
    """Seconds that the endpoint asks to wait; None if it does not say."""
    detail: str = ""
    """Why there is no answer: status and message, without the key."""


class Client:
    """Connections to one endpoint, for several threads.

    :param endpoint: where.
    :param timeout: seconds to wait for an answer.
    :param connections: at most.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float, connections: int) -> None:
        import httpx

        self._endpoint = endpoint
        self._timeout = timeout
        headers = {"content-type": "application/json", "accept": "application/json"}
        if endpoint.key:
            headers["authorization"] = f"Bearer {endpoint.key}"
        self._client = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=min(10.0, timeout)),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,  # the key is for this host alone
        )

    def __enter__(self) -> Client:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, request: Request) -> Outcome:
        """Send a request.

        :param request: what to send.
        :return: what came of it.
        :raises ConfigError: if the endpoint says that no request of this kind can ever be answered.
        """
        import httpx

        url = f"{self._endpoint.url}/{request.path}"
        try:
            with self._client.stream("POST", url, content=request.body) as response:
                content = self._read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return Outcome("unsent", detail=type(error).__name__)
        except httpx.HTTPError as error:
            return Outcome("lost", detail=type(error).__name__)
        if content is None:
            return Outcome("lost", detail=f"more than {_MOST_BYTES:,} bytes, or no end within the time")
        status = response.status_code
        if status == 200 and _is_answer(content):
            return Outcome("answered", body=content)
        detail = self._detail(status, content)
        if status in _LATER:
            return Outcome("busy", retry_after=_seconds(response.headers.get("retry-after")), detail=detail)
        if status in (401, 402, 403, 404, 405) or 300 <= status < 400:
            raise ConfigError(
                "the language model's endpoint must take the key, the path and the model",
                got=detail,
                remedy="see the connection's host and password, and the model's name",
            )
        if 400 <= status < 500 and status not in _LOST:
            return Outcome("rejected", detail=detail)
        return Outcome("lost", detail=detail)

    def _read(self, response: httpx.Response) -> bytes | None:
        """Return a response's body; None if it does not end: httpx bounds the time of each part alone."""
        parts, size, deadline = list[bytes](), 0, time.monotonic() + self._timeout
        for part in response.iter_bytes():
            size += len(part)
            if size > _MOST_BYTES or time.monotonic() > deadline:
                return None
            parts.append(part)
        return b"".join(parts)

    def _detail(self, status: int, body: bytes) -> str:
        """Return a status with the server's message; a message may repeat what was sent, never the key."""
        message = ""
        try:
            found = read_json(body)["error"]
            message = found["message"] if isinstance(found, dict) else str(found)
        except (ValueError, LookupError, TypeError):
            pass
        return self._endpoint.without_key(f"status {status} {str(message)[:300]}".strip())


def _is_answer(body: bytes) -> bool:
    """Return whether a body may be an answer: no page of a proxy, no error with the wrong status."""
    try:
        found = read_json(body)
    except ValueError:
        return False
    return isinstance(found, dict) and not found.get("error")


def _seconds(header: str | None) -> float | None:
    """Read ``Retry-After``, which is seconds or a date (RFC 9110, section 10.2.3)."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
