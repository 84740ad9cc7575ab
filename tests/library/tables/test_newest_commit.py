"""A new version of a table is seen, on a disk and in an object store, without reading the log each time."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from modelmill.errors import TableError, TransientError
from modelmill.tables.newest_commit import Commit, newest_commit
from modelmill.tables.storage import table_exists


def commit(uri: object, *, mode: str = "append") -> None:
    write_deltalake(str(uri), pa.table({"n": [1]}), mode=mode)  # type: ignore[call-overload]


def seen(uri: object, known: Commit | None = None) -> int | None:
    newest = newest_commit(str(uri), known=known)
    return newest.version if newest else None


def known_commit(uri: object) -> Commit:
    newest = newest_commit(str(uri))
    assert newest is not None
    return newest


def test_a_table_that_is_not_there_yet_has_no_commit(tmp_path: Path) -> None:
    assert seen(tmp_path / "nowhere") is None
    (tmp_path / "begun" / "_delta_log").mkdir(parents=True)
    assert seen(tmp_path / "begun") is None
    with pytest.raises(TableError, match="must not be empty"):
        newest_commit("")


@pytest.mark.parametrize("commits", [1, 2, 40])
def test_the_newest_version_is_found_however_far_ahead_it_is(tmp_path: Path, commits: int) -> None:
    commit(tmp_path)
    known = known_commit(tmp_path)
    assert newest_commit(f"file://{tmp_path}", known=known) == known
    log = tmp_path / "_delta_log"
    for version in range(1, commits + 1):
        shutil.copy(log / f"{0:020d}.json", log / f"{version:020d}.json")
    assert seen(tmp_path, known) == commits


def test_a_commit_says_when_it_was_made(tmp_path: Path) -> None:
    before = int(time.time())
    commit(tmp_path)
    assert before <= known_commit(tmp_path).modified <= time.time()


def test_a_cleaned_up_log_hides_nothing(tmp_path: Path) -> None:
    commit(tmp_path)
    known = known_commit(tmp_path)
    for _ in range(3):
        commit(tmp_path)
    DeltaTable(str(tmp_path)).create_checkpoint()
    for version in range(3):
        (tmp_path / "_delta_log" / f"{version:020d}.json").unlink()
    assert seen(tmp_path, known) == 3
    newest = known_commit(tmp_path)
    assert newest_commit(str(tmp_path), known=newest) == newest


def test_another_table_in_the_same_place_is_seen(tmp_path: Path) -> None:
    for _ in range(3):
        commit(tmp_path / "t")
    known = known_commit(tmp_path / "t")
    shutil.rmtree(tmp_path / "t")
    assert seen(tmp_path / "t", known) is None
    commit(tmp_path / "t")
    assert seen(tmp_path / "t", known) == 0
    for _ in range(2):
        commit(tmp_path / "t")
    os.utime(tmp_path / "t" / "_delta_log" / f"{2:020d}.json", (1, 1))  # of another day
    assert newest_commit(str(tmp_path / "t"), known=known) not in (None, known)


def test_a_log_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    commit(tmp_path)
    (tmp_path / "_delta_log" / f"{0:020d}.json").write_text("{")
    with pytest.raises(DeltaError, match="Truncated record"):
        newest_commit(str(tmp_path))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of an S3 server in another process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urlopen(Request(f"{url}/lake", method="PUT")).close()
                break
            except URLError:
                assert time.monotonic() < deadline, "the S3 server did not start"
                time.sleep(0.1)
        yield "s3://lake"
    finally:
        server.kill()
        server.wait()


def test_a_table_in_an_object_store(bucket: str) -> None:
    table = f"{bucket}/some tables/t"
    assert seen(table) is None
    commit(table)
    known = known_commit(table)
    assert (known.version, newest_commit(table, known=known)) == (0, known)
    commit(table)
    assert seen(table, known) == 1
    with pytest.raises(OSError, match=r"NoSuchBucket|404"):
        newest_commit("s3://other/t")


def test_a_store_that_does_not_answer_or_has_no_such_bucket_is_told_apart(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not table_exists(f"{bucket}/none")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(TransientError, match="store must answer") as refused:
        table_exists(f"{bucket}/none")
    assert "\x1b" not in str(refused.value)


class _Slow(BaseHTTPRequestHandler):
    """A store that thinks for a while before it says that there is nothing."""

    def do_HEAD(self) -> None:
        time.sleep(0.5)
        self.send_response(404)
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815 (the base class fixes the name)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("known", [None, Commit(version=3, modified=0, size=0)])
def test_a_slow_store_does_not_hold_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, known: Commit | None
) -> None:
    """The server is a thread of this process: a call that held the interpreter's lock would wait for ever."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with pytest.raises(OSError, match="404"):
        newest_commit("s3://lake/t", known=known)
    server.shutdown()
    server.server_close()
