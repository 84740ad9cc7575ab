"""Sending one request, once: what came of it decides what is accounted for.

Plain ``httpx``, whose clients retry nothing by themselves. A refusal (a status from 400 to 499) and a
connection that was never made cost nothing. Everything else that is not an answer may have been billed.
"""

from __future__ import annotations

import contextlib
import email.utils
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

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


class _Connection:
    """One connection, for one thread, with a time after which it is shut, whatever the server still sends.

    httpx bounds the time of each read alone: a server that sends a byte now and then, be it of the headers,
    would hold a thread for ever.

    :param headers: of each request.
    :param context: for TLS; to make one takes longer than all the rest, so all connections share it.
    :param timeout: seconds from the beginning of a request to the last byte of its response.
    """

    def __init__(self, headers: Mapping[str, str], context: ssl.SSLContext, timeout: float) -> None:
        import httpx

        self._client = httpx.Client(
            headers=dict(headers),
            verify=context,
            timeout=httpx.Timeout(timeout, connect=min(10.0, timeout)),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            follow_redirects=False,  # the key is for this host alone
        )
        self._timeout = timeout
        self._changing = threading.Lock()
        self._socket: socket.socket | None = None
        self.is_late = False
        """Whether the time of the last request was over before its end."""

    @contextlib.contextmanager
    def post(self, url: str, body: bytes) -> Iterator[httpx.Response]:
        """Send a request.

        :param url: where to.
        :param body: its content.
        :yield: the response; its body is still to be read, within the same time.
        """
        self.is_late = False
        timer = threading.Timer(self._timeout, self._shut)
        timer.daemon = True
        timer.start()
        try:
            with self._client.stream(
                "POST", url, content=body, extensions={"trace": self._trace}
            ) as response:
                yield response
        finally:
            timer.cancel()

    def close(self) -> None:
        """Close it."""
        self._client.close()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the socket that the next bytes go through; TLS makes a new one of it."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._changing:
                self._socket = info["return_value"].get_extra_info("socket")
            if self.is_late:
                self._shut()

    def _shut(self) -> None:
        with self._changing:
            self.is_late = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    # Not that of a TLS socket, which another thread is reading: it would take its state away.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


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
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        if endpoint.key:
            self._headers["authorization"] = f"Bearer {endpoint.key}"
        self._free: queue.LifoQueue[_Connection | None] = queue.LifoQueue()
        self._made: list[_Connection] = []
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

    def _connection(self) -> _Connection:
        made = _Connection(self._headers, self._context, self._timeout)
        self._made.append(made)
        return made

    def _sent(self, connection: _Connection, request: Request) -> RequestOutcome:
        import httpx

        try:
            with connection.post(f"{self._endpoint.url}/{request.path}", request.body) as response:
                content = _read(response)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return RequestOutcome("unsent", detail=type(error).__name__)
        except httpx.HTTPError as error:
            late = f"no end within {self._timeout:g} s"
            return RequestOutcome("lost", detail=late if connection.is_late else type(error).__name__)
        if content is None:
            return RequestOutcome("lost", detail=f"more than {_MOST_BYTES:,} bytes")
        return self._outcome(response, content)

    def _outcome(self, response: httpx.Response, content: bytes) -> RequestOutcome:
        status = response.status_code
        if status == 200 and _is_answer(content):
            return RequestOutcome("answered", body=content)
        detail = self._detail(status, content)
        if status in _LATER:
            return RequestOutcome(
                "busy", retry_after=_seconds(response.headers.get("retry-after")), detail=detail
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


def _read(response: httpx.Response) -> bytes | None:
    """Return a response's body; None if it is too long."""
    parts, size = list[bytes](), 0
    for part in response.iter_bytes():
        size += len(part)
        if size > _MOST_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


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
