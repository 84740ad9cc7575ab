"""The journal: what was reserved, sent and answered, on the disk before anything relies on it.

One file of lines, to which every process appends that works on the same result. Before a request is sent, its
worst case is reserved; when its answer is there, the reservation is settled at what was billed. Both are
flushed to the disk before the next thing happens, so that at any moment, whatever dies,

    billed <= accounted = settled + open reservations <= budget.

A reservation whose process is dead stays open for ever: it may have been billed. Its content may be asked
again. A process is alive while it holds the lock on a file of its own, which the kernel releases on any kind
of death. A line that a dying process has not finished says nothing; what it was about is still reserved.

Requests that go out together as a batch are reserved for the batch: it lives until its results are settled,
whichever processes come and go meanwhile.

The file has to be on a disk that all attempts see, as the step's work directory is for its checkpoints.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modelmill.system.disk import flush

_BATCH = "batch-"
"""Before the name of a batch that owns reservations; the tokens of processes are hexadecimal."""

Settlement = Literal["answered", "lost", "free"]
"""``free``: refused, or never sent; it costs nothing."""


@dataclass(frozen=True)
class Reservation:
    """Money set aside for one request."""

    id: str
    key: str
    cost: int


Denial = Literal["known", "in_flight", "wait", "exhausted"]
"""Why nothing is reserved: the answer is there; another process or thread is asking; there may be enough when
what is in flight is settled; the budget does not suffice."""


@dataclass(frozen=True)
class Spent:
    """Where the money is, in units."""

    settled: int
    reserved: int
    """By requests in flight, in batches, or of dead processes."""
    lost: int
    """Requests that may have been billed and gave no answer."""
    orphans: int
    """Requests that were open when their process died."""

    @property
    def accounted(self) -> int:
        """All that may have been billed."""
        return self.settled + self.reserved


@dataclass
class _Open:
    reservation: Reservation
    owner: str


class Journal:
    """The journal of one result. Safe between threads, and between processes that share the folder.

    :param folder: where the journal is; made if it does not exist.
    :param limit: the budget, in units.
    """

    def __init__(self, folder: Path, *, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._limit = limit
        self._token = uuid.uuid4().hex
        self._numbers = 0
        self._threads = threading.RLock()
        self._flushing = threading.Lock()
        self._closed = False
        self._flushed = 0
        self._read = 0
        self._answers: dict[str, bytes] = {}
        self._open: dict[str, _Open] = {}
        self._in_flight: dict[str, str] = {}  # by key, the newest open reservation
        self._settled = self._reserved = self._lost = 0
        self._dead: set[str] = set()
        # Held before the first reservation is written, so that nobody takes this process for dead.
        self._owner = self._opened(f"owner-{self._token}")
        fcntl.flock(self._owner, fcntl.LOCK_EX)
        self._gate = self._opened("lock")
        self._file = self._opened("journal.jsonl")
        flush(folder)
        with self._exclusive():
            pass  # reads what is there

    def __enter__(self) -> Journal:
        """Return the journal."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the files: what is still open counts as that of a dead process."""
        with self._threads, self._flushing:
            self._closed = True
            for file in (self._file, self._gate, self._owner):
                os.close(file)

    def reserve(self, key: str, cost: int, *, batch: str | None = None) -> Reservation | Denial:
        """Reserve the worst case of a request, and wait until that is on the disk.

        :param key: of the request.
        :param cost: its worst case, in units.
        :param batch: name of the batch that it goes out with; then :meth:`flush` waits for the disk.
        :return: the reservation, upon which the request may be sent; or why there is none.
        """
        owner = self._token if batch is None else f"{_BATCH}{batch}"
        with self._exclusive():
            if key in self._answers:
                return "known"
            if key in self._in_flight and self._is_alive(self._open[self._in_flight[key]].owner):
                return "in_flight"
            if self._settled + self._reserved + cost > self._limit:
                busy = any(self._is_alive(one.owner) for one in self._open.values())
                return "wait" if busy else "exhausted"
            self._numbers += 1
            reservation = Reservation(f"{owner}.{self._numbers}", key, cost)
            end = self._append({"r": reservation.id, "k": key, "c": cost})
        if batch is None:
            self._flush(end)
        return reservation

    def batches(self) -> dict[str, list[Reservation]]:
        """Return the open reservations of batches, by the batch's name."""
        with self._exclusive():
            found: dict[str, list[Reservation]] = {}
            for one in self._open.values():
                if one.owner.startswith(_BATCH):
                    found.setdefault(one.owner.removeprefix(_BATCH), []).append(one.reservation)
            return found

    def flush(self) -> None:
        """Wait until all that was written is on the disk."""
        with self._threads:
            end = self._read
        self._flush(end)

    def settle(
        self,
        reservation: Reservation,
        how: Settlement,
        *,
        cost: int | None = None,
        answer: Mapping[str, Any] | None = None,
        together: bool = False,
    ) -> None:
        """Write down what came of a request, and wait until that is on the disk.

        :param reservation: of the request.
        :param how: what came of it.
        :param cost: what was billed, in units; None: unknown, so that all that was reserved counts.
        :param answer: the answer, JSON.
        :param together: whether others follow: then :meth:`flush` waits for the disk.
        """
        line: dict[str, Any] = {"s": reservation.id, "h": how}
        line["c"] = 0 if how == "free" else reservation.cost if cost is None else cost
        if answer is not None:
            line["a"] = answer
        with self._exclusive():
            end = self._append(line)
        if not together:
            self._flush(end)

    def is_known(self, key: str) -> bool:
        """Return whether the answer to a request is there."""
        with self._threads:
            return key in self._answers

    def answers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each key with its answer, in the order of the keys."""
        with self._threads:
            keys = sorted(self._answers)
        for key in keys:
            yield key, json.loads(self._answers[key])

    def answer(self, key: str) -> dict[str, Any] | None:
        """Return one answer; None if there is none."""
        with self._threads:
            found = self._answers.get(key)
        return None if found is None else dict(json.loads(found))

    def has_replies(self) -> bool:
        """Return whether an answer is there that is no refusal: the endpoint took a request."""
        return any(entry["status"] != "refused" for _, entry in self.answers())

    @property
    def spent(self) -> Spent:
        """Where the money is, as of what this process has read."""
        with self._threads:
            orphans = sum(not self._is_alive(one.owner) for one in self._open.values())
            return Spent(self._settled, self._reserved, self._lost, orphans)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        with self._threads:
            self._check_open()
            fcntl.flock(self._gate, fcntl.LOCK_EX)
            try:
                self._catch_up()
                yield
            finally:
                fcntl.flock(self._gate, fcntl.LOCK_UN)

    def _catch_up(self) -> None:
        """Read the lines that were added since; end a line that a dead process left unfinished."""
        size = os.fstat(self._file).st_size
        if size == self._read:
            return
        content = os.pread(self._file, size - self._read, self._read)
        if not content.endswith(b"\n"):
            self._write(b"\n", at=size)
            content += b"\n"
        self._read += len(content)
        for line in content.split(b"\n"):
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            found = json.loads(line)
        except ValueError:
            return  # unfinished: nothing was sent or settled upon it
        if not isinstance(found, dict):
            return
        if "r" in found:
            reservation = Reservation(found["r"], found["k"], found["c"])
            self._open[reservation.id] = _Open(reservation, reservation.id.partition(".")[0])
            self._in_flight[reservation.key] = reservation.id
            self._reserved += reservation.cost
        elif found.get("s") in self._open:
            self._take_settlement(found)

    def _take_settlement(self, found: Mapping[str, Any]) -> None:
        reservation = self._open.pop(found["s"]).reservation
        if self._in_flight.get(reservation.key) == reservation.id:
            del self._in_flight[reservation.key]
        self._reserved -= reservation.cost
        self._settled += found["c"]
        self._lost += found["h"] == "lost"
        if found["h"] == "answered":
            # The first answer stays: the step may have used it already.
            self._answers.setdefault(reservation.key, json.dumps(found["a"], ensure_ascii=False).encode())

    def _append(self, line: Mapping[str, Any]) -> int:
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        # An endpoint that cuts an answer off may leave half a surrogate pair, which is no character.
        content = text.encode(errors="replace") + b"\n"
        self._write(content, at=self._read)
        self._read += len(content)
        self._take(content)
        return self._read

    def _write(self, content: bytes, *, at: int) -> None:
        while content:
            written = os.pwrite(self._file, content, at)
            content, at = content[written:], at + written

    def _flush(self, end: int) -> None:
        """Wait until the file is on the disk as far as ``end``; one wait serves all threads that need it."""
        with self._flushing:
            self._check_open()
            if self._flushed < end:
                size = os.fstat(self._file).st_size
                os.fsync(self._file)
                self._flushed = size

    def _check_open(self) -> None:
        # A thread may outlive an interrupted step, and the numbers of closed files are given out again.
        if self._closed:
            raise ValueError("the journal is closed")

    def _is_alive(self, token: str) -> bool:
        if token == self._token or token.startswith(_BATCH):
            return True
        if token in self._dead:
            return False
        try:
            file = os.open(self._folder / f"owner-{token}", os.O_RDWR)
        except FileNotFoundError:
            self._dead.add(token)
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._dead.add(token)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False

    def _opened(self, name: str) -> int:
        return os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
