"""One connection to an endpoint, each of whose replies is bounded in bytes and in time."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from modelmill.language_models.endpoint import Endpoint
from modelmill.system.replies import SLACK_SECONDS, UNPACKED, Deadline, Intake, origin, taken

if TYPE_CHECKING:
    import httpx


class OpenReply:
    """A reply whose headers are there, and whose body is still to be read, within the same time.

    :param response: httpx's.
    :param deadline: of the whole reply.
    """

    def __init__(self, response: httpx.Response, deadline: Deadline) -> None:
        self._response = response
        self._deadline = deadline
        self.status = response.status_code
        self.headers = response.headers

    def pieces(self, most_bytes: int) -> Iterator[bytes]:
        """Read the body.

        :param most_bytes: of it.
        :return: its bytes, unpacked, as they come.
        :raises ReplyError: if it is longer, has no end in time, or cannot be unpacked.
        :raises httpx.HTTPError: if the connection breaks.
        """
        encoding = self.headers.get("content-encoding")
        intake = Intake(self._deadline.server, most_bytes=most_bytes, encoding=encoding)
        return taken(self._response.iter_raw(), intake, self._deadline)

    def read(self, most_bytes: int) -> bytes:
        """Read the body at once: see :meth:`pieces`."""
        return b"".join(self.pieces(most_bytes))


class Connection:
    """One connection, for one thread. It asks once, and follows no redirect.

    :param endpoint: where; its key is sent with each request.
    :param headers: of each request.
    :param context: whom TLS trusts; to make one takes longer than all the rest, so connections share it.
    :param timeout: seconds from the beginning of a request to the last byte of its reply.
    """

    def __init__(
        self, endpoint: Endpoint, headers: Mapping[str, str], *, context: ssl.SSLContext, timeout: float
    ) -> None:
        import httpx

        secret = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self._endpoint = endpoint
        self._client = httpx.Client(
            headers={**headers, **UNPACKED, **secret},
            verify=context,
            timeout=httpx.Timeout(timeout + SLACK_SECONDS, connect=min(10.0, timeout)),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            follow_redirects=False,  # the key is for this host alone
        )
        self._timeout = timeout
        self._socket: socket.socket | None = None
        """A second handle of the open connection: TLS takes the first one away."""

    @contextlib.contextmanager
    def request(
        self, method: str, path: str, *, seconds: float | None = None, **content: Any
    ) -> Iterator[OpenReply]:
        """Send a request.

        :param method: of HTTP.
        :param path: below the endpoint's URL.
        :param seconds: that the reply may take; None: as the connection says.
        :param **content: as httpx takes it.
        :yield: the reply.
        :raises ReplyError: if its time is over.
        :raises httpx.HTTPError: if no connection is made, or it breaks.
        """
        import httpx

        url = f"{self._endpoint.url}/{path}"
        with Deadline(seconds or self._timeout, server=origin(url)) as deadline:
            if self._socket is not None:
                deadline.watch(self._socket)

            def trace(event: str, info: Mapping[str, Any]) -> None:
                if event.endswith("connect_tcp.complete"):
                    self._keep(info["return_value"].get_extra_info("socket"))
                    deadline.watch(info["return_value"].get_extra_info("socket"))

            try:
                with self._client.stream(method, url, extensions={"trace": trace}, **content) as response:
                    yield OpenReply(response, deadline)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
                raise  # nothing was sent
            except httpx.HTTPError:
                deadline.check()
                raise

    def close(self) -> None:
        """Close it."""
        self._client.close()
        self._keep(None)

    def _keep(self, made: socket.socket | None) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = made.dup() if made is not None else None
