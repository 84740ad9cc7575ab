"""Replies of servers of other parties, of which no more is taken than a limit of bytes and of time allows.

What a server sends is its own affair: a body without an end, a gigabyte, a few bytes that unpack to one, a
byte every few seconds. A time-out between two bytes bounds none of it. So each reply has a
:class:`Deadline`, after which its connection is shut, whatever still comes, and an :class:`Intake`, which
unpacks it piece by piece and counts. Either ends in a :class:`~modelmill.errors.ReplyError`.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from modelmill.errors import ReplyError

UNPACKED = {"accept-encoding": "identity"}
"""Header that asks for a reply as it is: what is not packed cannot unpack to more than was sent."""

SLACK_SECONDS = 5.0
"""So much longer than a whole reply a single read may take: its own time-out would be a race with the end."""

_PIECE = 1 << 16
_PACKED = ("gzip", "x-gzip", "deflate")
_ELSEWHERE = (301, 302, 303, 307, 308)
_EITHER_HEADER = zlib.MAX_WBITS | 32
"""zlib then finds out whether it is gzip's header or its own."""


def origin(url: str) -> str:
    """Return which server a URL asks, for a message: without user, path and query, which may be secrets.

    :param url: an HTTP URL.
    :return: such as ``https://host:8080``.
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class Deadline:
    """A time for a whole reply, from the beginning of its request to its last byte.

    A context: the time runs within it. At its end the connections that it watches are shut, which ends a read
    in any thread, be it of the headers or of a handshake.

    :param seconds: how long it may take.
    :param server: for the message.
    """

    def __init__(self, seconds: float, *, server: str) -> None:
        self.seconds = seconds
        self.server = server
        self.is_over = False
        self._changing = threading.Lock()
        self._watched: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        """Begin."""
        self._timer.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End, and let go of the connections; they stay as they are."""
        self._timer.cancel()
        with self._changing:
            for one in self._watched:
                one.close()
            self._watched.clear()

    def watch(self, connection: socket.socket) -> None:
        """Shut a connection at the end; at once if that has come.

        :param connection: a TCP socket, before TLS or with it.
        """
        with contextlib.suppress(OSError), self._changing:
            # A second handle: TLS takes the first one away, and must not be touched while it is being read.
            self._watched.append(socket.socket(fileno=socket.dup(connection.fileno())))
        if self.is_over:
            self._shut()

    def check(self) -> None:
        """Make sure that the end has not come: what was read by then looks like a whole reply.

        :raises ReplyError: if it has.
        """
        if self.is_over:
            raise ReplyError.late(self.server, self.seconds)

    def _shut(self) -> None:
        with self._changing:
            self.is_over = True
            for one in self._watched:
                with contextlib.suppress(OSError):  # the other side has closed it
                    one.shutdown(socket.SHUT_RDWR)


class Intake:
    """What is taken of one reply's body: unpacked and counted, piece by piece.

    :param server: for the message.
    :param most_bytes: of the body, packed as well as unpacked.
    :param encoding: the reply's ``Content-Encoding``.
    :raises ReplyError: if it is one that nobody has asked for.
    """

    def __init__(self, server: str, *, most_bytes: int, encoding: str | None = None) -> None:
        self._server = server
        self._most = most_bytes
        self._packed = self._taken = 0
        wanted = (encoding or "identity").strip().lower()
        if wanted != "identity" and wanted not in _PACKED:
            raise ReplyError.unreadable(server, f"the encoding {wanted[:40]!r}")
        self._unpacking = None if wanted == "identity" else zlib.decompressobj(_EITHER_HEADER)

    def pieces(self, part: bytes) -> Iterator[bytes]:
        """Take what has come.

        :param part: bytes as they were sent.
        :yield: the same, unpacked, in pieces of at most 64 KiB where they were packed.
        :raises ReplyError: if that is more than the limit, or cannot be unpacked.
        """
        self._packed += len(part)
        if self._packed > self._most:
            raise ReplyError.long(self._server, self._most)
        if self._unpacking is None:
            yield part
            return
        left = part
        while left and not self._unpacking.eof:
            try:
                piece = self._unpacking.decompress(left, _PIECE)
            except zlib.error:
                raise ReplyError.unreadable(self._server, "what cannot be unpacked") from None
            self._taken += len(piece)
            if self._taken > self._most:
                raise ReplyError.long(self._server, self._most)
            left = self._unpacking.unconsumed_tail
            yield piece

    def end(self) -> None:
        """Make sure that what was packed is whole.

        :raises ReplyError: if it breaks off.
        """
        if self._unpacking is not None and self._packed and not self._unpacking.eof:
            raise ReplyError.unreadable(self._server, "what breaks off")


def taken(parts: Iterable[bytes], intake: Intake, deadline: Deadline) -> Iterator[bytes]:
    """Yield a reply's body within its limits.

    :param parts: as they come; reading one may fail in any way once the deadline is over.
    :param intake: counts them.
    :param deadline: of the reply.
    :yield: the body, in pieces.
    :raises ReplyError: if it is too long, has no end in time, or cannot be unpacked.
    """
    for part in parts:
        deadline.check()
        yield from intake.pieces(part)
    deadline.check()
    intake.end()


@dataclass(frozen=True)
class Reply:
    """A whole reply."""

    status: int
    headers: Mapping[str, str]
    """By name, as the server spells it."""
    content: bytes


@dataclass(frozen=True)
class Limits:
    """Of a reply."""

    most_bytes: int
    seconds: float
    """From the beginning of the request to the last byte of the reply."""


def read_reply(response: http.client.HTTPResponse, deadline: Deadline, *, most_bytes: int) -> Reply:
    """Read the body of a reply whose headers are there.

    :param response: the reply.
    :param deadline: of the reply; it watches the connection.
    :param most_bytes: of the body.
    :return: the reply.
    :raises ReplyError: see :func:`taken`.
    :raises OSError: if the connection breaks.
    :raises http.client.HTTPException: if the reply breaks off.
    """
    intake = Intake(deadline.server, most_bytes=most_bytes, encoding=response.headers.get("content-encoding"))
    # Not read(): it would wait for a whole piece, and take a length as great as the server names.
    parts = iter(lambda: response.read1(_PIECE), b"")
    content = b"".join(taken(parts, intake, deadline))
    if response.length:  # read1 takes a connection that ends for the end of the reply
        raise http.client.IncompleteRead(content, response.length)
    return Reply(response.status, dict(response.headers.items()), content)


def ask(
    url: str,
    limits: Limits,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    context: ssl.SSLContext | None = None,
    follows: bool = True,
) -> Reply:
    """Ask an HTTP server, through the proxy that the environment names, if any.

    :param url: an ``http`` or ``https`` URL.
    :param limits: of the reply.
    :param headers: to send.
    :param body: to send by POST; None: it is a GET.
    :param context: whom TLS trusts; None: as the machine does.
    :param follows: whether it goes where the server sends it, with the same headers: for a question without
        credentials alone.
    :return: the reply, whatever its status.
    :raises ReplyError: if the reply is too long or has no end in time.
    :raises OSError: if there is none.
    :raises http.client.HTTPException: if it breaks off, or is no HTTP.
    """
    request = urllib.request.Request(url, data=body, headers={**UNPACKED, **(headers or {})})  # noqa: S310
    with Deadline(limits.seconds, server=origin(url)) as deadline:
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            _Plain(deadline),
            _Encrypted(deadline, context),
            _AnyStatus(follows),
            urllib.request.HTTPRedirectHandler(),
        ):
            opener.add_handler(handler)
        try:
            with opener.open(request, timeout=limits.seconds) as response:
                return read_reply(response, deadline, most_bytes=limits.most_bytes)
        except (OSError, http.client.HTTPException):
            deadline.check()
            raise


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Takes each status for a reply, unless it sends elsewhere and is followed."""

    def __init__(self, follows: bool) -> None:
        self._follows = follows

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        if self._follows and response.status in _ELSEWHERE:
            return super().http_response(request, response)
        return response

    https_response = http_response


class _WatchedConnection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, deadline: Deadline, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline = deadline

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self._deadline.seconds + SLACK_SECONDS)
        self._deadline.watch(self.sock)


class _WatchedEncryptedConnection(http.client.HTTPSConnection, _WatchedConnection):
    """Its socket is watched before the handshake: ``HTTPSConnection.connect`` calls the one above first."""


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_WatchedConnection, req, deadline=self._deadline)  # type: ignore[arg-type]


class _Encrypted(urllib.request.HTTPSHandler):
    def __init__(self, deadline: Deadline, context: ssl.SSLContext | None) -> None:
        super().__init__(context=context)
        self._deadline, self._trusted = deadline, context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        made, options = _WatchedEncryptedConnection, {"deadline": self._deadline, "context": self._trusted}
        return self.do_open(made, req, **options)
