"""Talking to another process through pipes, with a deadline for each message."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import IO

_WRITTEN_AT_ONCE = 1 << 16
_READ_AT_ONCE = 1 << 20


def write_all(stream: IO[bytes] | None, content: bytes, deadline: float) -> None:
    """Write a message into a pipe.

    :param stream: a pipe that does not block.
    :param content: the message.
    :param deadline: when it must be written, by :func:`time.monotonic`.
    :raises TimeoutError: if it is not.
    :raises OSError: if nobody reads it.
    """
    number, left = _number(stream), memoryview(content)
    with selectors.DefaultSelector() as waiting:
        waiting.register(number, selectors.EVENT_WRITE)
        while left:
            _wait(waiting, deadline)
            left = left[os.write(number, left[:_WRITTEN_AT_ONCE]) :]


def read_exactly(stream: IO[bytes] | None, size: int, deadline: float) -> bytes:
    """Read a message of a known size.

    :param stream: a pipe.
    :param size: bytes.
    :param deadline: when all of it must be there, by :func:`time.monotonic`.
    :return: the message.
    :raises TimeoutError: if it is not.
    :raises BrokenPipeError: if the other process ends before.
    """
    return _read(stream, lambda found: size - len(found), deadline)


def read_line(stream: IO[bytes] | None, deadline: float) -> bytes:
    """Read a line, and nothing may follow it.

    :param stream: a pipe.
    :param deadline: when all of it must be there, by :func:`time.monotonic`.
    :return: the line, with its end.
    :raises TimeoutError: if it is not.
    :raises BrokenPipeError: if the other process ends before.
    """
    return _read(stream, lambda found: 0 if found.endswith(b"\n") else _READ_AT_ONCE, deadline)


def _read(stream: IO[bytes] | None, missing: Callable[[bytearray], int], deadline: float) -> bytes:
    number, found = _number(stream), bytearray()
    with selectors.DefaultSelector() as waiting:
        waiting.register(number, selectors.EVENT_READ)
        while (more := missing(found)) > 0:
            _wait(waiting, deadline)
            part = os.read(number, min(more, _READ_AT_ONCE))
            if not part:
                raise BrokenPipeError("the process ended without an answer")
            found += part
    return bytes(found)


def _number(stream: IO[bytes] | None) -> int:
    if stream is None:
        raise BrokenPipeError("the process has no pipe")
    return stream.fileno()


def _wait(waiting: selectors.BaseSelector, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0 or not waiting.select(left):
        raise TimeoutError
