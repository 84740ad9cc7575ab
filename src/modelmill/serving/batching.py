"""A queue of rows of many requests, which a few threads answer in batches; when it is full it refuses.

A free thread takes its share of the waiting rows, up to a limit: no row waits for a batch to fill, and
batches grow by themselves if requests come faster than they are answered. The unit is the row, so all threads
share a large request, and it does not delay the small ones behind it for long.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

RowT = TypeVar("RowT")

_MEMORY = 0.1
"""Weight of the newest batch in the moving average of the time for a row."""


class QueueFullError(Exception):
    """The queue has no room for the rows of a request.

    :param retry_after: seconds until it probably has.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class RowQueue(Generic[RowT]):
    """A bounded queue of rows, and the threads that empty it.

    :param work: called with at least one row, in one of the threads; must not raise.
    :param threads: number of threads.
    :param limit: rows that may wait.
    :param batch_rows: rows that a thread takes at a time, at most.
    """

    def __init__(
        self, work: Callable[[Sequence[RowT]], None], *, threads: int, limit: int, batch_rows: int
    ) -> None:
        self._work = work
        self._limit = limit
        self._batch_rows = batch_rows
        self._rows: deque[RowT] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds_per_row = 0.0
        self._threads = [
            threading.Thread(target=self._run, name=f"modelmill-rows-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """Return the number of rows that wait."""
        return len(self._rows)

    def put(self, rows: Sequence[RowT]) -> None:
        """Add all rows of a request, or none.

        :param rows: at least one.
        :raises QueueFullError: if there is no room for all of them, or the queue is closed.
        """
        with self._changed:
            if self._closed or len(self._rows) + len(rows) > self._limit:
                seconds = (len(self._rows) + len(rows)) * self._seconds_per_row / len(self._threads)
                raise QueueFullError(max(1, math.ceil(seconds)))
            self._rows.extend(rows)
            self._changed.notify(min(len(rows), len(self._threads)))

    def close(self) -> None:
        """Take no more rows, answer those that wait, and end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while batch := self._take():
            began = time.perf_counter()
            self._work(batch)
            seconds = (time.perf_counter() - began) / len(batch)
            self._seconds_per_row += _MEMORY * (seconds - self._seconds_per_row)

    def _take(self) -> list[RowT]:
        """Wait for rows; return none when the queue is closed and empty."""
        with self._changed:
            while not self._rows and not self._closed:
                self._changed.wait()
            share = math.ceil(len(self._rows) / len(self._threads))
            return [self._rows.popleft() for _ in range(min(share, self._batch_rows))]
