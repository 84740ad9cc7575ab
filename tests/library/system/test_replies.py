"""Replies that never end, that have a gigabyte, that unpack to one: no more is taken than the limit."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import socketserver
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelmill.errors import ReplyError, TransientError
from modelmill.language_models.batch_endpoint import Batch, BatchClient
from modelmill.language_models.client import Client
from modelmill.language_models.dialects import Request
from modelmill.language_models.endpoint import Endpoint
from modelmill.registry.finished_runs import RunPlace, finished_run, finished_runs
from modelmill.serving.addresses import NoAnswerError, ServiceAddress
from modelmill.system import replies
from modelmill.system.replies import Intake, Limits, ask

GIGABYTE = 1 << 30
HEAD = b"HTTP/1.1 200 OK\r\n"
LONG = Limits(most_bytes=1_000_000, seconds=60)
SHORT = Limits(most_bytes=1_000_000, seconds=0.5)

ASKED = Request("chat", "chat/completions", b"{}")

Send = Callable[[bytes], None]


@contextmanager
def server(behave: Callable[[Send, threading.Event], None]) -> Iterator[tuple[str, list[int]]]:
    """Have something answer everything; yield its URL, and how many bytes it could send each time."""
    is_over, sent = threading.Event(), list[int]()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            number = len(sent)
            sent.append(0)

            def send(content: bytes) -> None:
                self.request.sendall(content)
                sent[number] += len(content)

            with suppress(OSError):
                behave(send, is_over)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_address[1]}", sent
        finally:
            is_over.set()
            made.shutdown()
            thread.join()


def endless(send: Send, is_over: threading.Event) -> None:
    send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while not is_over.is_set():
        send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


def gigabyte(send: Send, is_over: threading.Event) -> None:
    send(HEAD + b"Content-Length: %d\r\n\r\n" % GIGABYTE)
    for _ in range(GIGABYTE >> 20):
        send(bytes(1 << 20))


def packed(send: Send, is_over: threading.Event) -> None:
    """A gigabyte that packs to a thousandth: the packed bytes alone are within a limit of a megabyte."""
    send(HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n")
    packing = zlib.compressobj(9, wbits=31)
    for _ in range(GIGABYTE >> 20):
        if is_over.is_set():
            return
        send(packing.compress(bytes(1 << 20)) + packing.flush(zlib.Z_SYNC_FLUSH))


def dripping(send: Send, is_over: threading.Event) -> None:
    send(HEAD + b"Content-Length: 1000000\r\n\r\n")
    while not is_over.wait(0.02):
        send(b" ")


def dripping_headers(send: Send, is_over: threading.Event) -> None:
    send(HEAD + b"X: ")
    while not is_over.wait(0.02):
        send(b"y")


def whole(content: bytes, headers: bytes = b"") -> Callable[[Send, threading.Event], None]:
    def send_it(send: Send, _is_over: threading.Event) -> None:
        send(HEAD + headers + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(content) + content)

    return send_it


TOO_LONG = [endless, gigabyte, packed]
TOO_LATE = [dripping, dripping_headers]


@pytest.mark.parametrize("behave", TOO_LONG)
def test_no_more_is_taken_than_the_limit(behave: Callable[..., None]) -> None:
    with (
        server(behave) as (url, sent),
        pytest.raises(ReplyError, match="must have at most 1,000,000 bytes") as caught,
    ):
        ask(f"{url}/hooks/of-mine?key=sesame", LONG)
    assert f"a reply of {url} must" in str(caught.value)
    assert "see what answers there" in str(caught.value)
    assert sent[0] < 100_000_000  # the sockets of both sides have buffers


@pytest.mark.parametrize("behave", TOO_LATE)
def test_bytes_that_come_one_by_one_hold_nobody(behave: Callable[..., None]) -> None:
    with server(behave) as (url, _), pytest.raises(ReplyError, match=r"no end within 0\.5 s") as caught:
        ask(url, SHORT)
    assert caught.value.is_late
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("content", "headers", "found"),
    [
        (b"{}", b"", b"{}"),
        (gzip.compress(b"[1]" * 999, mtime=0), b"Content-Encoding: gzip\r\n", b"[1]" * 999),
        (zlib.compress(b"[1]" * 999), b"Content-Encoding: Deflate\r\n", b"[1]" * 999),
        (bytes(1_000_000), b"", bytes(1_000_000)),
        (gzip.compress(bytes(1_000_000), mtime=0), b"Content-Encoding: x-gzip\r\n", bytes(1_000_000)),
    ],
)
def test_a_reply_within_its_limits_is_read(content: bytes, headers: bytes, found: bytes) -> None:
    with server(whole(content, headers)) as (url, _):
        assert ask(url, LONG).content == found


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (bytes(1_000_001), "", "more than 1,000,000 bytes"),
        (gzip.compress(bytes(1_000_001), mtime=0), "gzip", "more than 1,000,000 bytes"),
        (b"{}", "br", "the encoding 'br'"),
        (b"{}", "gzip, gzip", "the encoding 'gzip, gzip'"),
        (b"{}", "gzip", "what cannot be unpacked"),
        (gzip.compress(bytes(99), mtime=0)[:-9], "gzip", "what breaks off"),
    ],
)
def test_one_byte_more_or_another_packing_is_refused(content: bytes, encoding: str, message: str) -> None:
    headers = f"Content-Encoding: {encoding}\r\n".encode() if encoding else b""
    with server(whole(content, headers)) as (url, _), pytest.raises(ReplyError, match=message):
        ask(url, LONG)


def test_what_is_packed_a_thousandfold_is_unpacked_piece_by_piece() -> None:
    """64 KB that come at once are 64 MB unpacked, of which no more than the limit is ever made."""
    content, pieces = gzip.compress(bytes(64 << 20), mtime=0), list[int]()
    assert len(content) < 70_000
    intake = Intake("http://h", most_bytes=1_000_000, encoding="gzip")
    with pytest.raises(ReplyError):
        pieces.extend(len(piece) for piece in intake.pieces(content))
    assert max(pieces) <= 65_536
    assert 900_000 < sum(pieces) <= 1_000_000


def test_each_status_is_a_reply_and_nobody_is_sent_elsewhere_with_a_key() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: %s/there\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with (
        server(whole(b"here")) as (inner, asked),
        server(lambda send, _: send(moved % inner.encode())) as (url, _),
    ):
        assert ask(url, LONG, follows=False).status == 302
        assert asked == []
        assert ask(url, LONG).content == b"here"
    refusal = b"HTTP/1.1 503 No\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"
    with server(lambda send, _: send(refusal)) as (url, _):
        assert (ask(url, LONG).status, ask(url, LONG).content) == (503, b"busy")


# Each that asks.


@pytest.mark.parametrize("behave", TOO_LONG)
def test_an_answer_of_a_language_model(behave: Callable[..., None]) -> None:
    with server(behave) as (url, _), Client(Endpoint(url), timeout=60, connections=1) as client:
        outcome = client.send(ASKED)
    assert (outcome.kind, outcome.detail) == ("lost", "more than 4,000,000 bytes")


@pytest.mark.parametrize("behave", TOO_LATE)
def test_an_answer_of_a_language_model_without_an_end(behave: Callable[..., None]) -> None:
    with server(behave) as (url, _), Client(Endpoint(url), timeout=0.5, connections=1) as client:
        outcomes = [client.send(ASKED) for _ in range(2)]
    assert [(one.kind, one.detail) for one in outcomes] == [("lost", "no end within 0.5 s")] * 2


def batch(file: str) -> Batch:
    return Batch("b", "completed", None, 1, 1, file, None, "")


@pytest.mark.parametrize("behave", TOO_LONG)
def test_a_batch_and_its_files(
    behave: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmill.language_models.batch_endpoint._PAUSE", 0.0)
    (tmp_path / "lines").write_text("{}\n")
    with server(behave) as (url, _), BatchClient(Endpoint(url), timeout=60) as client:
        for asked in (
            lambda: client.upload("b", tmp_path / "lines"),
            lambda: client.look("b"),
            lambda: client.find("b", None),
            lambda: list(client.lines(batch("f"), requests=1)),
        ):
            with pytest.raises(TransientError, match=r"(at most|more than) 4,[01]00,000 bytes"):
                asked()


def test_lines_of_a_file_that_is_far_longer_than_its_answers() -> None:
    """Each line is short enough: it is all of them together that are not."""

    def lines(send: Send, is_over: threading.Event) -> None:
        send(HEAD + b"Connection: close\r\n\r\n")
        while not is_over.is_set():
            send((json.dumps({"custom_id": "a", "response": None}).encode() + b"\n") * 2000)

    with (
        server(lines) as (url, _),
        BatchClient(Endpoint(url), timeout=60) as client,
        pytest.raises(ReplyError, match="must have at most 4,300,000 bytes"),
    ):
        list(client.lines(batch("f"), requests=3))


def test_a_batch_whose_status_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelmill.language_models.batch_endpoint._PAUSE", 0.0)
    with (
        server(dripping) as (url, _),
        BatchClient(Endpoint(url), timeout=0.2) as client,
        pytest.raises(ReplyError, match=r"no end within 0\.2 s"),
    ):
        client.look("b")


@pytest.mark.parametrize("behave", TOO_LONG)
def test_the_store_of_runs(behave: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelmill.registry.finished_runs._LIMITS", LONG)
    with server(behave) as (url, _):
        for asked in (
            lambda: finished_run(url, "desks", "a" * 64),
            lambda: finished_runs(url, [RunPlace("1", "f" * 32)]),
        ):
            with pytest.raises(ReplyError, match="must have at most"):
                asked()


def test_a_slow_store_of_runs_is_asked_by_its_own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelmill.registry.finished_runs._LIMITS", SHORT)
    with server(dripping) as (url, _):
        assert finished_run(url, "desks", "a" * 64) is None


def test_runs_that_are_nested_too_deep_are_none() -> None:
    with server(whole(b"[" * 200_000)) as (url, _):
        assert finished_run(url, "desks", "a" * 64) is None


@pytest.mark.parametrize(
    ("behave", "said"),
    [*((one, "more than 10,000,000 bytes") for one in TOO_LONG), (dripping, "no end within")],
)
def test_an_instance_of_a_service(behave: Callable[..., None], said: str) -> None:
    with server(behave) as (url, _), pytest.raises(NoAnswerError, match=said):
        ServiceAddress.of(url).get("/v1/models", seconds=0.5 if behave is dripping else 60)


@pytest.mark.parametrize("behave", [*TOO_LONG, *TOO_LATE])
def test_what_the_triggerer_waits_for(behave: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = pytest.importorskip("modelmill_operators.waiting")
    monkeypatch.setattr(waiting, "MOST_FAILURES", 1)
    monkeypatch.setattr(waiting, "REQUEST_SECONDS", 0.3 if behave in TOO_LATE else 60.0)

    async def connection(_name: str) -> SimpleNamespace:
        return SimpleNamespace()

    with server(behave) as (url, sent):
        monkeypatch.setattr(waiting, "BaseHook", SimpleNamespace(aget_connection=connection))
        monkeypatch.setattr(waiting, "llm_environment", lambda _: {"MODELMILL_LLM_URL": url})
        trigger = waiting.EndpointTrigger(connection="c", path="batches/b", until=["completed"], seconds=0.0)

        async def fired() -> list[Any]:
            return [event.payload async for event in trigger.run()]

        assert asyncio.run(fired()) == [{"status": ""}]
    assert len(sent) == 1
    assert sent[0] < 100_000_000


def test_a_message_names_the_server_alone() -> None:
    assert replies.origin("https://me:sesame@host:8/hooks/of-mine?key=a") == "https://host:8"


def test_a_deadline_that_is_over_shuts_what_is_made_later() -> None:
    with server(dripping) as (url, _):
        port = int(url.rpartition(":")[2])
        with replies.Deadline(0.0, server=url) as deadline:
            while not deadline.is_over:
                pass
            with socket.create_connection(("127.0.0.1", port)) as late:
                deadline.watch(late)
                with suppress(ConnectionResetError):  # the server may still have been writing
                    assert late.recv(1) == b""
