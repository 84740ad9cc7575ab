"""Numbers and times as whole numbers of 64 bits that keep their order: between two neighbours lies nothing.

Integers stand for themselves, times for their microseconds, doubles for their bits (with 0.0 for -0.0), so
that all that follows is exact up to infinity, to subnormal numbers and to the ends of the calendar.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.signals.values import STORED, Kind

Ordinals = npt.NDArray[np.int64]

ORDERED: frozenset[Kind] = frozenset({"integer", "float", "time"})
"""Kinds whose values have ordinals."""
SMALLEST, LARGEST = -(2**63), 2**63 - 1
_INFINITY = 0x7FF0_0000_0000_0000
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_TICK = timedelta(microseconds=1)
_CALENDAR = (
    (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _TICK,
    (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _TICK,
)


def limits(kind: Kind) -> tuple[int, int]:
    """Return the ordinals of the smallest and the largest value of a kind, of times those of Python."""
    if kind == "time":
        return _CALENDAR
    return (-_INFINITY, _INFINITY) if kind == "float" else (SMALLEST, LARGEST)


def ordinals(values: pa.Array, kind: Kind) -> Ordinals:
    """Return the ordinals of values; 0 where they are null.

    :param values: of the Arrow type of the kind.
    :param kind: one of :data:`ORDERED`.
    :return: an ordinal for each value.
    """
    if kind == "time":
        values = values.cast(pa.int64())
    plain = (pc.fill_null(values, 0) if values.null_count else values).to_numpy(zero_copy_only=False)
    if kind != "float":
        return np.asarray(plain, np.int64)
    bits = (plain + 0.0).view(np.int64)  # this makes 0.0 of -0.0
    found: Ordinals = np.where(bits < 0, SMALLEST - bits, bits)
    return found


def valued(found: Ordinals, kind: Kind, null: Any = None) -> pa.Array:
    """Return the values that ordinals stand for.

    :param found: the ordinals.
    :param kind: one of :data:`ORDERED`.
    :param null: where there is none.
    :return: an array of the Arrow type of the kind.
    """
    if kind == "float":
        return pa.array(floats(found), pa.float64(), mask=null)
    whole = pa.array(found, pa.int64(), mask=null)
    return whole.cast(STORED[kind]) if kind == "time" else whole


def floats(found: Ordinals) -> npt.NDArray[np.float64]:
    """Return the doubles that ordinals of doubles stand for."""
    return np.where(found < 0, SMALLEST - found, found).view(np.float64)


def ordinal(value: Any, kind: Kind) -> int:
    """Return the ordinal of one value, which is not null."""
    if kind == "float":
        return int(ordinals(pa.array([float(value)], pa.float64()), kind)[0])
    return (value - _EPOCH) // _TICK if isinstance(value, datetime) else int(value)


def block(double: float) -> tuple[int, int]:
    """Return the first integer that is at least a double when it is converted to one, and the first above it.

    Beyond 2^53 several integers become the same double. ``LARGEST + 1`` stands for none.
    """
    return _first(lambda whole: float(whole) >= double), _first(lambda whole: float(whole) > double)


def _first(holds: Any) -> int:
    low, high = SMALLEST, LARGEST + 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
