"""The queue of rows: bounded, shared fairly, drained at the end."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from modelmill.serving.batching import QueueFullError, RowQueue


class Worker:
    """Takes batches down, and waits in each until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.busy = threading.Semaphore(0)

    def __call__(self, batch: Sequence[int]) -> None:
        self.batches.append(list(batch))
        self.busy.release()
        assert self.gate.wait(20)


def test_every_row_is_worked_on_once_in_order_of_arrival() -> None:
    worker = Worker()
    worker.gate.set()
    queue = RowQueue(worker, threads=1, limit=1000, batch_rows=7)
    for start in range(0, 300, 3):
        queue.put(range(start, start + 3))
    queue.close()
    assert [row for batch in worker.batches for row in batch] == list(range(300))
    assert max(map(len, worker.batches)) <= 7


def test_what_waits_is_taken_together_and_shared_by_the_threads() -> None:
    worker = Worker()
    queue = RowQueue(worker, threads=2, limit=100, batch_rows=32)
    for number in (0, 1):
        queue.put([number])
        worker.busy.acquire()
    for number in range(2, 12):
        queue.put([number])
    assert len(queue) == 10
    worker.gate.set()
    queue.close()
    assert sorted(row for batch in worker.batches for row in batch) == list(range(12))
    assert 5 in map(len, worker.batches)  # a half, not all: the other thread is not left idle


def test_rows_beyond_the_limit_are_refused_whole() -> None:
    worker = Worker()
    queue = RowQueue(worker, threads=1, limit=5, batch_rows=32)
    queue.put([0])
    worker.busy.acquire()
    queue.put([1, 2, 3, 4])
    with pytest.raises(QueueFullError) as caught:
        queue.put([5, 6])
    assert caught.value.retry_after >= 1
    queue.put([7])
    worker.gate.set()
    queue.close()
    assert sorted(row for batch in worker.batches for row in batch) == [0, 1, 2, 3, 4, 7]


def test_a_closed_queue_takes_nothing() -> None:
    queue = RowQueue(lambda batch: None, threads=2, limit=5, batch_rows=32)
    queue.close()
    with pytest.raises(QueueFullError):
        queue.put([1])
