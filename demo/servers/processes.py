"""Starting servers as processes of their own, knowing that the one that answers is ours, and ending them."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import httpx
import psutil

from demo.servers import guard
from modelmill.errors import ModelmillError
from modelmill.redaction import redacted

LOOPBACK = "127.0.0.1"
_LOG_TAIL = 4000
_WATCH_SECONDS = 2.0


class ServerError(ModelmillError):
    """A server did not come up, or ended too early.

    :param rule: what has to hold.
    :param got: the value that breaks the rule, if there is one to show.
    :param remedy: what to do about it.
    :param log: the end of its log, which follows the message line by line.
    """

    def __init__(self, rule: str, *, got: object = None, remedy: str = "", log: str = "") -> None:
        super().__init__(rule, got=got, remedy=remedy)
        self.log = redacted(log)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"    {line}" for line in self.log.splitlines())])


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def check(*groups: Servers | None) -> None:
    """Raise an error if a server has ended.

    :param *groups: servers; None: those were not started.
    :raises ServerError: naming the server, with the end of its log.
    """
    for servers in groups:
        if servers is not None:
            servers.check()


@contextlib.contextmanager
def relying_on(*groups: Servers | None) -> Iterator[None]:
    """Name the server that has ended where a request within the block gets no answer.

    :param *groups: servers, as :func:`check` takes them.
    :raises ServerError: for a request without an answer.
    """
    try:
        yield
    except httpx.TransportError as error:
        time.sleep(_WATCH_SECONDS)  # its socket is closed before it has ended
        check(*groups)
        raise ServerError("every server must answer", got=repr(error), remedy="see their logs") from error


def watch(*groups: Servers | None) -> NoReturn:
    """Wait for as long as all servers run.

    :param *groups: servers, as :func:`check` takes them.
    :raises ServerError: if one has ended.
    """
    while True:
        check(*groups)
        time.sleep(_WATCH_SECONDS)


class Servers:
    """Server processes, each in a session of its own, that end together.

    :param logs: folder for their output, one file each.
    :param environment: their environment, on top of this process's.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str]) -> None:
        self.logs = logs
        self.mark = secrets.token_hex(16)
        self.environment = {**environment, guard.MARK: self.mark}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[str] | None = None

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Start one server.

        :param name: names its log file.
        :param command: what to run.
        :param environment: variables of this one only.
        :return: its process id.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        watcher = self._guard or self._start_guard()
        with self.log_path(name).open("wb") as log:
            process = subprocess.Popen(
                list(command),
                env={**self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[name] = process
        if watcher.stdin:
            watcher.stdin.write(f"{process.pid}\n")
            watcher.stdin.flush()
        return process.pid

    def run(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Run a command to its end.

        :param name: names its log file.
        :param command: what to run.
        :param environment: variables of this one only.
        :raises ServerError: if it fails.
        """
        self.start(name, command, environment)
        status = self._running[name].wait()
        if status != 0:
            raise self._error(name, "succeed", status)
        del self._running[name]

    def kill(self, name: str) -> None:
        """End one server and what it started as a crash would: with SIGKILL.

        :param name: the server.
        """
        leader = self._running.pop(name)
        for process in guard.family([leader.pid], mark="").values():
            with contextlib.suppress(psutil.Error):
                process.kill()
        leader.wait()

    def ended(self) -> list[str]:
        """Return the servers that have ended by themselves since they were started, and forget them."""
        found = [name for name, process in self._running.items() if process.poll() is not None]
        for name in found:
            del self._running[name]
        return found

    def check(self) -> None:
        """Raise an error if a server has ended.

        :raises ServerError: naming the server, with the end of its log.
        """
        for name, process in self._running.items():
            status = process.poll()
            if status is not None:
                raise self._error(name, "keep running", status)

    def wait_until(self, answers: Callable[[], bool], *, what: str, timeout: float) -> None:
        """Wait until a server answers.

        :param answers: asks it; an HTTP error means "not yet".
        :param what: what is waited for, for the message.
        :param timeout: seconds.
        :raises ServerError: if a server ends, or the time is over.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(httpx.HTTPError):
                if answers():
                    return
            time.sleep(0.2)
        tails = "\n".join(f"{name}: {self.tail(name)}" for name in self._running)
        raise ServerError(
            f"{what} must come up within {timeout:.0f} s", remedy=f"see {self.logs}:", log=tails
        )

    def listens(self, name: str, port: int) -> bool:
        """Return whether it is this server, or a child of it, that listens on a port: not a leftover.

        :param name: the server.
        :param port: the port.
        :return: True if so.
        """
        leader = self._running[name].pid
        for process in guard.family([leader], self.mark).values():
            with contextlib.suppress(psutil.Error):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                        return True
        return False

    def stop(self) -> None:
        """End all of them and everything that they started. Safe to call twice."""
        watcher, self._guard = self._guard, None
        if watcher is None:
            return
        leaders = [process.pid for process in self._running.values()]
        try:
            if watcher.stdin:
                watcher.stdin.close()
            watcher.wait(timeout=60)
        finally:
            # Also when the guard was killed, or a second Ctrl-C cut the wait short.
            guard.end_all(leaders, self.mark)
            for process in self._running.values():
                process.wait()
            self._running.clear()
            if watcher.poll() is None:
                watcher.kill()
                watcher.wait()

    def log_path(self, name: str) -> Path:
        """Return the file with a server's output."""
        return self.logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """Return the end of a server's log."""
        with contextlib.suppress(OSError):
            return self.log_path(name).read_text(errors="replace")[-_LOG_TAIL:]
        return ""

    def _error(self, name: str, must: str, status: int) -> ServerError:
        remedy = f"see {self.log_path(name)}, which ends with:"
        return ServerError(
            f"{name} must {must}", got=f"exit status {status}", remedy=remedy, log=self.tail(name)
        )

    def _start_guard(self) -> subprocess.Popen[str]:
        # -P: the script's own folder is no place to import from.
        self._guard = subprocess.Popen(
            [sys.executable, "-P", str(Path(guard.__file__)), self.mark],
            env={name: value for name, value in os.environ.items() if name != guard.MARK},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        return self._guard


class LocalServer(ABC):
    """Base of the servers: started by ``with``, ended when the block is left.

    :param home: folder for everything that it keeps.
    :param port: port to listen on; None: a free one.
    """

    def __init__(self, home: Path, *, port: int | None = None) -> None:
        self.home = home.absolute()
        self.port = port or free_port()
        self.servers: Servers | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{LOOPBACK}:{self.port}"

    @abstractmethod
    def start(self) -> None:
        """Start it; returns before it answers."""

    @abstractmethod
    def wait_ready(self, *, timeout: float = 120.0) -> None:
        """Wait until it answers, and make sure that it is this server that does."""

    def wait_healthy(self, name: str, *, what: str, timeout: float) -> None:
        """Wait until ``/health`` answers, and make sure that one of our processes does.

        :param name: of the process, as it was started.
        :param what: what is waited for, for an error.
        :param timeout: seconds.
        :raises ServerError: if it ends, or does not answer in time.
        """
        servers = self.servers
        if servers is None:
            raise RuntimeError("start() comes before wait_ready()")
        servers.wait_until(
            lambda: httpx.get(f"{self.url}/health").status_code == 200 and servers.listens(name, self.port),
            what=what,
            timeout=timeout,
        )

    def stop(self) -> None:
        """End every process of it. Safe to call twice."""
        if self.servers:
            self.servers.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
