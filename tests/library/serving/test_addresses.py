"""Which services a pipeline may have asked, and what their answers can do to the step."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from modelmill.errors import ConfigError, TransientError
from modelmill.serving import addresses
from modelmill.serving.addresses import NoAnswerError, ServiceAddress
from modelmill.serving.rollout import Target, wait_for_instance
from modelmill.settings import Settings

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def answering(
    answer: Callable[[socket.socket], None], *, context: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """Have something answer on a port of this machine; yield the port, and what it was asked."""
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with suppress(OSError), closing(connection):
                inner = context.wrap_socket(connection, server_side=True) if context else connection
                with closing(inner):
                    asked.append(inner.recv(65_536))
                    answer(inner)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)


def send(content: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(content)


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"),
        *("[fe80::1]", "[::ffff:169.254.169.254]", "[::169.254.169.254]", "[2002:a9fe:a9fe::]"),
        *("[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]", "[ff02::1]", "[::]", "[::ffff:0.0.0.0]"),
        *("0.0.0.0", "0", "0.1.2.3", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1"),
    ],
)
def test_secrets_of_a_machine_are_not_asked_for(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELMILL_SERVICES", raising=False)
    with pytest.raises(ConfigError, match="MODELMILL_SERVICES") as caught:
        ServiceAddress.of(f"http://{host}/latest").get("/v1/models", seconds=1)
    assert host in str(caught.value)


@pytest.mark.parametrize("also", [[], ["127.0.0.1"]])
def test_a_name_for_such_an_address_is_refused(also: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, [*also, "169.254.169.254"])
    with pytest.raises(ConfigError, match=r"http://serve\.example:80, which is 169\.254\.169\.254"):
        ServiceAddress.of("http://serve.example:80").get("/v1/models", seconds=1)


def test_a_name_is_looked_up_once_for_each_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it stands for later, when the connection is made, does not matter."""
    with answering(send(OK)) as (port, asked):
        looked = resolve(monkeypatch, ["127.0.0.1"], ["169.254.169.254"])
        assert ServiceAddress.of(f"http://serve.example:{port}/a/").get("/v1/models", seconds=9) == b"{}"
    assert looked == ["serve.example"]
    assert asked[0].startswith(b"GET /a/v1/models HTTP/1.1\r\nHost: serve.example:")


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have names stand for some addresses, one list after the other; return the names that are looked up."""
    looked: list[str] = []
    left, real = list(answers), socket.getaddrinfo

    def found(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        if host == "serve.example":
            looked.append(host)
            return [entry for one in left.pop(0) for entry in real(one, port, *arguments, **options)]
        return real(host, port, *arguments, **options)

    monkeypatch.delenv("MODELMILL_SERVICES", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", found)
    return looked


@pytest.mark.parametrize(
    "url",
    [
        *("http://me:word@127.0.0.1", "http://127.0.0.1@169.254.169.254", "http://127.0.0.1?a", "http://a#b"),
        *(
            "http://a\\b",
            "http://a/../b",
            "http://a/%2e%2e/b",
            "http://a/%252E./b",
            "http://a/b%2f..%2fc",
            "http://a b",
            "ftp://a",
        ),
        *("http://[::1", "http://a:99999", "http://a:0", "http://a\r\nX: y", "http://", "http://\uff41/"),
        *("file:///etc/passwd", "http:a", "//a"),
    ],
)
def test_an_address_says_plainly_what_is_asked(url: str) -> None:
    with pytest.raises(ConfigError, match="without user, query, fragment") as caught:
        ServiceAddress.of(url)
    assert "word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        *(
            ("http://127.0.0.1:8080", True),
            ("http://127.0.0.1:8080/", True),
            ("http://127.0.0.1:8081", False),
        ),
        *(
            ("https://127.0.0.1:8080", False),
            ("http://localhost:8080", False),
            ("http://SERVE-0.serve", True),
        ),
        *(("http://serve-0.serve.:80", True), ("http://a.serve-0.serve", False), ("http://serve", False)),
        *(("https://gate/team/a", True), ("https://gate/teams", False), ("https://gate:443/team", True)),
        *(("https://gate/team%2fx", False), ("http://169.254.169.254", False), ("http://.serve", False)),
    ],
)
def test_the_deployment_names_the_services(
    url: str, is_allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_SERVICES", "http://127.0.0.1:8080, http://*.serve,https://gate/team/")
    if is_allowed:
        assert ServiceAddress.of(url).is_named
        return
    with pytest.raises(ConfigError, match="add the address to MODELMILL_SERVICES"):
        ServiceAddress.of(url)


def test_what_the_deployment_names_is_asked_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMILL_SERVICES", "http://0.0.0.0:1")
    with pytest.raises(NoAnswerError, match="Connection refused"):
        ServiceAddress.of("http://0.0.0.0:1").get("/v1/models", seconds=5)
    monkeypatch.setenv("MODELMILL_SERVICES", "serve:80")
    with pytest.raises(ConfigError, match=r"MODELMILL_SERVICES lists .*; got 'serve:80'"):
        ServiceAddress.of("http://serve:80")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_is_sent_elsewhere(status: int) -> None:
    with answering(send(OK)) as (inner, asked):
        place = f"Location: http://127.0.0.1:{inner}/x"
        moved = f"HTTP/1.1 {status} Moved\r\n{place}\r\nContent-Length: 0\r\n\r\n".encode()
        with answering(send(moved)) as (port, _), pytest.raises(NoAnswerError, match=f"status {status}"):
            ServiceAddress.of(f"http://127.0.0.1:{port}").get("/v1/models", seconds=9)
    assert asked == []


def test_proxies_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(send(OK)) as (proxy, asked), answering(send(OK)) as (port, direct):
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy}")
        ServiceAddress.of(f"http://127.0.0.1:{port}").get("/v1/models", seconds=9)
    assert (len(asked), len(direct)) == (0, 1)


def drip(content: bytes) -> Callable[[socket.socket], None]:
    def send_slowly(connection: socket.socket) -> None:
        connection.sendall(content)
        for _ in range(600):
            time.sleep(0.05)
            connection.sendall(b"x")

    return send_slowly


@pytest.mark.parametrize(
    "content", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"]
)
def test_an_answer_that_never_ends_is_given_up(content: bytes) -> None:
    """Each byte comes in time, so that a time-out between two of them would never end it."""
    with answering(drip(content)) as (port, _):
        began = time.monotonic()
        with pytest.raises(NoAnswerError):
            ServiceAddress.of(f"http://127.0.0.1:{port}").get("/v1/models", seconds=0.5)
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\0" * 100, b"SSH-2.0-x\r\n", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 999,
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 10_000_001,
    ],
)  # fmt: skip
def test_what_is_no_page_is_no_answer(content: bytes) -> None:
    with answering(send(content)) as (port, _), pytest.raises(NoAnswerError):
        ServiceAddress.of(f"http://127.0.0.1:{port}").get("/v1/models", seconds=9)


@pytest.mark.parametrize("kind", ["closed", "other", "refused"])
def test_ports_are_not_looked_for_with_it(
    kind: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is there, the step says the same of it, unless the deployment names the address."""
    target = Target("topics", 1, "0" * 64)
    monkeypatch.setattr("modelmill.serving.rollout.check_champion", lambda *_: None)
    content = OK if kind == "other" else b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
    with answering(send(content)) as (port, _):
        url = f"http://127.0.0.1:{1 if kind == 'closed' else port}"
        monkeypatch.delenv("MODELMILL_SERVICES", raising=False)
        said = []
        for named in ("", url):
            monkeypatch.setenv("MODELMILL_SERVICES", named)
            with pytest.raises(TransientError) as caught:
                wait_for_instance(ServiceAddress.of(url), target, deadline=0.0, settings=settings)
            said.append(str(caught.value.got))
    assert said[0] == "no answer of a service (it says why if MODELMILL_SERVICES has the address)"
    assert said[1] == {
        "closed": "no answer (Connection refused)",
        "other": "no answer (ValidationError)",
        "refused": "no answer (status 403)",
    }[kind]  # fmt: skip


def test_encrypted_services_show_who_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certify(tmp_path / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "key.pem")
    addresses._encryption.cache_clear()
    try:
        with answering(send(OK), context=context) as (port, _):
            with pytest.raises(NoAnswerError, match="certificate verify failed"):
                ServiceAddress.of(f"https://127.0.0.1:{port}").get("/v1/models", seconds=9)
            addresses._encryption.cache_clear()
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "key.pem"))
            assert ServiceAddress.of(f"https://127.0.0.1:{port}").get("/v1/models", seconds=9) == b"{}"
            with pytest.raises(NoAnswerError, match="certificate verify failed"):
                ServiceAddress.of(f"https://localhost:{port}").get("/v1/models", seconds=9)
    finally:
        addresses._encryption.cache_clear()


def certify(place: Path) -> None:
    """Write a key and a certificate of 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    place.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
