"""Addresses of services, as pipelines name them: which ones a step may ask, and how it asks.

Who writes a pipeline need not be who knows the worker's network. So the deployment says which addresses a
step may ask (``MODELMILL_SERVICES``). Where it says nothing, the step asks no link-local address and none of
a cloud's metadata, and does not tell why something that is no service gave no answer: ports cannot be looked
for with it. A host's name is looked up once, and that IP address is asked: it cannot change in between.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from modelmill.errors import ConfigError, ReplyError
from modelmill.settings import service_addresses
from modelmill.system.replies import UNPACKED, Deadline, Reply, read_reply

_MOST_BYTES = 10_000_000
_MOST_PLACES = 4
"""IP addresses of one name that are tried."""
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"),
    )
)
"""Where clouds tell their machines secrets; the others do it within the link, at 169.254.169.254."""
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NoAnswerError(Exception):
    """Nothing that could be an answer came: the text says what came instead."""


@dataclass(frozen=True)
class ServiceAddress:
    """Where an instance of a service is."""

    url: str
    host: str
    port: int
    is_encrypted: bool
    path: str
    """Without a slash at its end."""
    is_named: bool
    """Whether the deployment names it."""

    @classmethod
    def of(cls, url: str) -> ServiceAddress:
        """Read an address, and make sure that the deployment allows to ask it.

        :param url: as a pipeline names it.
        :return: the address.
        :raises ConfigError: if it is not plain, or not one of those that the deployment names.
        """
        parts = _parts(url)
        if parts is None:
            raise ConfigError(
                "a service's address is an http or https URL without user, query, fragment and ..",
                got=url,
                remedy="write it as http://host:port; services take no log-in",
            )
        named = service_addresses()
        is_named = any(_covers(one, parts) for one in named)
        if named and not is_named:
            raise ConfigError(
                f"a pipeline asks only services that the deployment names ({', '.join(named)})",
                got=url,
                remedy="name one of them, or add the address to MODELMILL_SERVICES",
            )
        return cls(
            url=url,
            host=parts.hostname or "",
            port=_port(parts),
            is_encrypted=parts.scheme == "https",
            path=parts.path.rstrip("/"),
            is_named=is_named,
        )

    def get(self, path: str, *, seconds: float) -> bytes:
        """Ask for a page, without a proxy and without following it elsewhere.

        :param path: below the address.
        :param seconds: for a connection; and for all of the answer.
        :return: its content.
        :raises ConfigError: if the name stands for an address that may not be asked.
        :raises NoAnswerError: if no page comes, or another status than 200.
        """
        try:
            raw = _connected(self._places(), self.port, seconds)
            open_socket = _encrypted(raw, self.host) if self.is_encrypted else raw
            with closing(open_socket), Deadline(seconds, server=f"{self.host}:{self.port}") as deadline:
                deadline.watch(open_socket)
                reply = self._asked(open_socket, path, deadline)
        except ReplyError as error:
            raise NoAnswerError(error.reason) from error
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise NoAnswerError(_reason(error)) from error
        if reply.status != 200:
            hint = ", and services send nobody elsewhere" if 300 <= reply.status < 400 else ""
            raise NoAnswerError(f"status {reply.status}{hint}")
        return reply.content

    def _asked(self, open_socket: socket.socket, path: str, deadline: Deadline) -> Reply:
        kind = http.client.HTTPSConnection if self.is_encrypted else http.client.HTTPConnection
        connection = kind(self.host, self.port)
        connection.sock, connection.auto_open = open_socket, 0  # it would look the name up again
        try:
            if isinstance(open_socket, ssl.SSLSocket):
                open_socket.do_handshake()
            headers = {"accept": "application/json", **UNPACKED}
            connection.request("GET", f"{self.path}{path}", headers=headers)
            with connection.getresponse() as response:
                return read_reply(response, deadline, most_bytes=_MOST_BYTES)
        except (OSError, http.client.HTTPException):
            deadline.check()
            raise

    def _places(self) -> list[str]:
        """Return the IP addresses that the name stands for; OSError if there are none."""
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        places = list(dict.fromkeys(str(address[0]) for *_, address in found))
        refused = [] if self.is_named else list(filter(_is_refused, places))
        if refused:
            raise ConfigError(
                "a service's address must not be link-local, multicast, reserved or that of cloud metadata",
                got=self.url if refused[0] == self.host else f"{self.url}, which is {refused[0]}",
                remedy="name the service's own address, or add this one to MODELMILL_SERVICES",
            )
        return places[:_MOST_PLACES]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _parts(url: str) -> SplitResult | None:
    """Return an address's parts; None if it does not plainly say where to ask for what."""
    plain = url.isascii() and url.isprintable() and not any(sign in url for sign in " ?#@\\")
    with suppress(ValueError):  # a bracket that is not closed, a port that is none
        parts = urlsplit(url)
        steps = unquote(unquote(parts.path)).split("/")
        is_web = parts.scheme in ("http", "https") and parts.hostname and _port(parts)
        if plain and is_web and not {".", ".."} & set(steps):
            return parts
    return None


def _port(parts: SplitResult) -> int:
    if parts.port is not None:
        return parts.port
    return 443 if parts.scheme == "https" else 80


def _covers(named: str, asked: SplitResult) -> bool:
    """Return whether an address is one that is named, or below it; ``*.`` stands for one name of a host."""
    parts = _parts(named)
    if parts is None:
        raise ConfigError(
            "MODELMILL_SERVICES lists http and https URLs without user, query and fragment",
            got=named,
            remedy="write each as http://host:port, or as http://*.domain:port",
        )
    host, wanted = _host(asked), _host(parts)
    if wanted.startswith("*."):
        first, _, host = host.partition(".")
        if not (first and host):
            return False
        wanted = wanted[2:]
    same = (asked.scheme, host, _port(asked)) == (parts.scheme, wanted, _port(parts))
    return same and f"{asked.path.rstrip('/')}/".startswith(f"{parts.path.rstrip('/')}/")


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").rstrip(".")


def _is_refused(place: str) -> bool:
    """Return whether an IP address is one that a pipeline may not ask unless the deployment names it."""
    address = ipaddress.ip_address(place)
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64:
            inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inside is not None:
            return _is_refused(str(inside))
    elif address in _THIS_NETWORK:
        return True
    if address.is_loopback:
        return False
    strange = address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved
    return strange or address in _METADATA


def _connected(places: Sequence[str], port: int, seconds: float) -> socket.socket:
    """Connect to the first of some IP addresses that answers; OSError if none does."""
    last = OSError("no address")
    for place in places:
        try:
            return socket.create_connection((place, port), timeout=seconds)
        except OSError as error:
            last = error
    raise last


def _encrypted(raw: socket.socket, host: str) -> ssl.SSLSocket:
    """Return a connection's encrypted side; its handshake is still to be made."""
    return _encryption().wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)


@functools.cache
def _encryption() -> ssl.SSLContext:
    return ssl.create_default_context()
