"""Limits of requests and tokens a minute, shared by all processes of a machine and kept over restarts.

Each limit is a virtual clock (the generic cell rate algorithm, ITU-T I.371): the time at which all that was
let through would have been due at the allowed rate. Two sends are as far apart as the rate says, give or take
:data:`_TOLERANCE`, in which a late thread catches up. So in any 60 seconds at the server, with requests that
take up to :data:`_JITTER` longer on their way than others, no more arrives than the limit, and 60 of 62
parts of the limit are used.

How many tokens a request takes is known afterwards. Before it is sent, the share of the worst case that
requests have needed so far is taken, and the difference is given back or taken when the answer is there.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

_WINDOW = 60.0
_TOLERANCE = 1.0
_JITTER = 1.0
_SPAN = _WINDOW + _TOLERANCE + _JITTER
_STATE = struct.Struct("<4d")
"""Virtual clocks of requests and of tokens; time up to which to wait; most tokens of a request so far."""

_FIRST_SHARE = 0.3
"""Of the worst case: a token of text is three to four bytes."""


class RateLimits:
    """Lets requests go when they may.

    :param path: file with the state, one for each endpoint and model.
    :param requests: a minute; None: not limited.
    :param tokens: a minute, input and output together; None: not limited.
    :param clock: seconds since 1970.
    """

    def __init__(
        self,
        path: Path,
        *,
        requests: int | None,
        tokens: int | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._requests, self._tokens = requests, tokens
        self._clock = clock
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._lock = threading.Lock()
        self._closed = False
        self._asked = self._used = 0.0  # of answers: worst cases and true tokens

    def __enter__(self) -> RateLimits:
        """Return the limits."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the file."""
        with self._lock:
            self._closed = True
            os.close(self._file)

    def beyond(self, worst: int) -> float | None:
        """Return the tokens that a request needs, about, if a minute has not so many.

        :param worst: tokens that it needs at most.
        :return: the tokens; None if it fits.
        """
        needed = worst * self._share
        return None if self._tokens is None or needed <= self._tokens else needed

    @property
    def _share(self) -> float:
        with self._lock:
            return self._used / self._asked if self._used else _FIRST_SHARE

    def take(self, worst: int) -> tuple[float, float]:
        """Take the place of one request.

        :param worst: tokens that it needs at most.
        :return: seconds to wait before it is sent, and the tokens that were taken, for :meth:`correct`.
        """
        taken = worst * self._share
        wait = self._change(lambda state: self._advance(state, taken))
        return wait, taken

    def correct(self, worst: int, taken: float, used: int | None) -> None:
        """Say what a request needed.

        :param worst: as it was given to :meth:`take`.
        :param taken: what that took.
        :param used: tokens that the endpoint counted; 0 if it refused the request; None: unknown.
        """
        if used is None:
            return
        if used:
            with self._lock:
                self._asked += worst
                self._used += used
        if self._tokens is not None:
            self._change(lambda state: self._give_back(state, taken - used))

    def pause(self, seconds: float) -> None:
        """Let nothing go for a time: the endpoint has asked for that.

        :param seconds: from now.
        """

        def later(state: list[float]) -> float:
            state[2] = max(state[2], self._clock() + seconds)
            return 0.0

        self._change(later)

    def paused(self) -> float:
        """Return the seconds for which the endpoint has asked that nothing goes; 0 if it has not."""
        return self._change(lambda state: max(0.0, state[2] - self._clock()))

    def _change(self, change: Callable[[list[float]], float]) -> float:
        with self._lock:
            if self._closed:  # the numbers of closed files are given out again
                raise ValueError("the limits are closed")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                content = os.pread(self._file, _STATE.size, 0)
                state = [*_STATE.unpack(content)] if len(content) == _STATE.size else [0.0] * 4
                found = change(state)
                os.pwrite(self._file, _STATE.pack(*state), 0)
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        return found

    def _advance(self, state: list[float], tokens: float) -> float:
        now = self._clock()
        start = max(now, state[2])
        # A clock that was set back must not stop everything: nothing is due later than a minute after it was.
        due = [min(clock, now + 2 * _SPAN) for clock in state[:2]]
        state[3] = max(state[3], tokens)
        if self._requests is not None:
            start = max(start, due[0] - _TOLERANCE)
        if self._tokens is not None:
            start = max(start, due[1] - _TOLERANCE)
        if self._requests is not None:
            state[0] = max(due[0], start) + _SPAN / self._requests
        if self._tokens is not None:
            state[1] = max(due[1], start) + tokens * self._seconds_a_token(state[3])
        return start - now

    def _give_back(self, state: list[float], tokens: float) -> float:
        state[1] -= tokens * self._seconds_a_token(state[3])
        return 0.0

    def _seconds_a_token(self, largest: float) -> float:
        # The last request of a minute comes on top of what the clock has counted before it.
        limit = float(self._tokens or 1)
        return _SPAN / max(limit - largest, 0.5 * limit)
