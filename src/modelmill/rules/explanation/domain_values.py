"""Values between the constants that a rule set compares a signal with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from modelmill.signals.values import Kind


def values_between(kind: Kind, landmarks: Sequence[Any], value: Any, count: int) -> list[Any]:
    """Return values of a kind from each gap between landmarks, from below the first and from above the last.

    :param kind: kind of the values.
    :param landmarks: ascending.
    :param value: the values are as near to it as possible; None for anywhere.
    :param count: values of each gap, fewer if it has not so many.
    :return: the values, ascending from gap to gap.
    """
    bounds = [None, *landmarks, None]
    inner = _INNER.get(kind)
    if inner is None:
        return []
    return [one for low, high in itertools.pairwise(bounds) for one in inner(low, high, value, count)]


def _floats(low: float | None, high: float | None, value: float | None, count: int) -> list[float]:
    if count == 1:
        if low is None and high is None:
            return [value if value is not None else 0.0]
        if low is None or (high is not None and value is not None and value >= high):
            found = math.nextafter(high or 0.0, -math.inf)
            return [found] if found > (-math.inf if low is None else low) else []
        found = math.nextafter(low, math.inf)
        return [found] if high is None or found < high else []
    start = low if low is not None else (high if high is not None else 0.0) - count - 1
    stop = high if high is not None else start + count + 1
    found_many = [start + (stop - start) * (place + 1) / (count + 1) for place in range(count)]
    return [one for one in found_many if (low is None or one > low) and (high is None or one < high)]


def _integers(low: float | None, high: float | None, value: int | None, count: int) -> list[int]:
    first = None if low is None else math.floor(low) + 1
    last = None if high is None else math.ceil(high) - 1
    if first is None and last is None:
        return [(value or 0) + place for place in range(count)]
    if first is not None and last is not None:
        near_end = value is not None and value > last
        found = (
            range(max(first, last - count + 1), last + 1)
            if near_end
            else range(first, min(last, first + count - 1) + 1)
        )
        return list(found)
    if first is not None:
        return [first + place for place in range(count)]
    return [last - place for place in range(count)] if last is not None else []


def _texts(low: str | None, high: str | None, value: str | None, count: int) -> list[str]:
    del value
    if low is None:
        candidates = (
            ["\0" * place for place in range(count)]
            if high is not None
            else ["a" * (place + 1) for place in range(count)]
        )
    else:
        candidates = [low + letter * (place + 1) for letter in ("a", " ", "\0") for place in range(count)]
    fitting = [one for one in candidates if high is None or one < high]
    return fitting[:count]


def _times(low: Any, high: Any, value: Any, count: int) -> list[Any]:
    tick = timedelta(microseconds=1)
    if low is None and high is None:
        return [] if value is None else [value + tick * place for place in range(count)]
    if low is None or (high is not None and value is not None and value >= high and count == 1):
        found = [high - tick * (place + 1) for place in range(count)]
    else:
        found = [low + tick * (place + 1) for place in range(count)]
    return [one for one in found if (low is None or one > low) and (high is None or one < high)]


def trial_values(kind: Kind, value: Any) -> list[Any]:
    """Return numbers around a value that may change a decision, for a domain that is not exact."""
    if kind not in ("integer", "float"):
        return []
    base = 1 if value is None else value
    found = [base * factor for factor in (2, 0.5, 10, 0.1, 0, -1)] + [base + 1, base - 1]
    return [int(one) for one in found] if kind == "integer" else [float(one) for one in found]


_INNER: Mapping[Kind, Callable[..., list[Any]]] = {
    "float": _floats,
    "integer": _integers,
    "text": _texts,
    "time": _times,
    "bytes": lambda *_: [b""],
    "texts": lambda *_: [()],
    "numbers": lambda *_: [()],
}
