"""Sending one request, once: what came of it decides what is accounted for.

Plain ``httpx``, whose clients retry nothing by themselves. A refusal (a status from 400 to 499) and a
connection that was never made cost nothing. Everything else that is not an answer may have been billed.
"""

from __future__ import annotations

import email.utils
import queue
import time
from dataclasses import dataclass
from typing import Literal, Protocol

from modelmill.errors import ConfigError, ReplyError
from modelmill.language_models.connection import Connection, OpenReply
from modelmill.language_models.dialects import Request, read_json
from modelmill.language_models.endpoint import Endpoint

Kind = Literal["answered", "busy", "lost", "unsent", "rejected"]
"""``busy``: asked to come later (429); ``lost``: may have been billed, and no answer came; ``unsent``: no
connection; ``rejected``: the endpoint does not take this request."""

_LATER = (429,)
_LOST = (408, 425)
_MOST_BYTES = 4_000_000
"""Of a response: an answer has some hundred."""


@dataclass(frozen=True)
class RequestOutcome:
    """What came of one request."""

    kind: Kind
    body: bytes = b""
    """Of an answer."""
    retry_after: float | None = None
    """Seconds that the endpoint asks to wait; None if it does not say."""
    detail: str = ""
    """Why there is no answer: status and message, without the key."""


class Sender(Protocol):
    """Sends requests, for any number of threads at a time."""

    def send(self, request: Request) -> RequestOutcome:
        """Send a request.

        :param request: what to send.
        :return: what came of it.
        :raises ConfigError: if no request of this kind can ever be answered.
        """


class Client:
    """Connections to one endpoint, one for each thread that sends.

    :param endpoint: where.
    :param timeout: seconds that a request may take, from its beginning to the last byte of the answer.
    :param connections: threads that send at the same time, at most.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float, connections: int) -> None:
        import httpx

        self._endpoint = endpoint
        self._timeout = timeout
        self._context = httpx.create_ssl_context()
        self._free: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        self._made: list[Connection] = []
        for _ in range(connections):
            self._free.put(None)  # made when none that was made is free

    def __enter__(self) -> Client:
        """Return the client."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the connections."""
        for connection in self._made:
            connection.close()

    def send(self, request: Request) -> RequestOutcome:
        """Send a request.

        :param request: what to send.
        :return: what came of it.
        :raises ConfigError: if the endpoint says that no request of this kind can ever be answered.
        """
        try:
            connection = self._free.get(timeout=self._timeout)
        except queue.Empty:
            return RequestOutcome("unsent", detail="no connection is free")
        try:
            connection = connection or self._connection()
            return self._sent(connection, request)
        finally:
            self._free.put(connection)

    def _connection(self) -> Connection:
        headers = {"content-type": "application/json", "accept": "application/json"}
        made = Connection(self._endpoint, headers, context=self._context, timeout=self._timeout)
        self._made.append(made)
        return made

    def _sent(self, connection: Connection, request: Request) -> RequestOutcome:
        import httpx

        try:
            with connection.request("POST", request.path, content=request.body) as reply:
                content = reply.read(_MOST_BYTES)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return RequestOutcome("unsent", detail=type(error).__name__)
        except httpx.HTTPError as error:
            return RequestOutcome("lost", detail=type(error).__name__)
        except ReplyError as error:
            return RequestOutcome("lost", detail=error.reason)
        return self._outcome(reply, content)

    def _outcome(self, reply: OpenReply, content: bytes) -> RequestOutcome:
        status = reply.status
        if status == 200 and _is_answer(content):
            return RequestOutcome("answered", body=content)
        detail = self._detail(status, content)
        if status in _LATER:
            return RequestOutcome(
                "busy", retry_after=_seconds(reply.headers.get("retry-after")), detail=detail
            )
        if status in (401, 402, 403, 404, 405) or 300 <= status < 400:
            raise ConfigError(
                "the language model's endpoint must take the key, the path and the model",
                got=detail,
                remedy="see the connection's host and password, and the model's name",
            )
        if 400 <= status < 500 and status not in _LOST:
            return RequestOutcome("rejected", detail=detail)
        return RequestOutcome("lost", detail=detail)

    def _detail(self, status: int, body: bytes) -> str:
        """Return a status with the server's message; a message may repeat what was sent, never the key."""
        return self._endpoint.without_key(error_detail(status, body))


def error_detail(status: int, body: bytes) -> str:
    """Return what a refusal says in a line.

    :param status: of the response.
    :param body: of the response; its message may repeat what was sent.
    :return: the status, with the endpoint's own message if there is one.
    """
    message = "and no JSON object with an answer" if status == 200 else ""
    try:
        found = read_json(body)["error"]
        message = found["message"] if isinstance(found, dict) else str(found)
    except (ValueError, LookupError, TypeError):
        pass
    shown = str(message)[:300].encode(errors="replace").decode()  # a half of a character cannot be logged
    return f"status {status} {shown}".strip()


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
