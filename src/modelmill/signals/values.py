"""The kinds of value that a signal has, and how Arrow holds each of them.

Arrow has some forty types; a signal knows five kinds that expressions compute with, the literal NULL, and
three that only evaluators look into: bytes (an image), lists of texts and lists of numbers (an embedding).
Every column is brought to the one Arrow type of its kind before anything is computed, so that each operation
exists once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["boolean", "integer", "float", "text", "time", "bytes", "texts", "numbers", "null"]

STORED: dict[Kind, pa.DataType] = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "text": pa.large_string(),
    "time": pa.timestamp("us", tz="UTC"),
    "bytes": pa.large_binary(),
    "texts": pa.large_list(pa.large_string()),
    "numbers": pa.large_list(pa.float64()),
    "null": pa.null(),
}
"""The Arrow type of each kind."""
OPAQUE: frozenset[Kind] = frozenset({"bytes", "texts", "numbers"})
"""Kinds of which an expression can say no more than whether a value is NULL."""
NUMBERS: frozenset[Kind] = frozenset({"integer", "float"})


def column_kind(column: pa.DataType) -> Kind | None:
    """Return the kind of a column.

    :param column: its Arrow type.
    :return: the kind; None for a type that signals do not read (structs, maps, lists of lists, …).
    """
    if pa.types.is_dictionary(column):
        column = column.value_type
    if any(test(column) for test in _LISTS):
        item = column_kind(column.value_type)
        return "texts" if item == "text" else "numbers" if item in NUMBERS else None
    for kind, tests in _TESTS.items():
        if any(test(column) for test in tests):
            return kind
    return None


_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


_TESTS: dict[Kind, tuple[Any, ...]] = {
    "boolean": (pa.types.is_boolean,),
    # Unsigned numbers of 64 bits do not fit signed ones.
    "float": (pa.types.is_floating, pa.types.is_decimal, pa.types.is_uint64),
    "integer": (pa.types.is_integer,),
    "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "time": (pa.types.is_date, pa.types.is_timestamp),
    "bytes": (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        pa.types.is_binary_view,
    ),
    "null": (pa.types.is_null,),
}


def stored(column: pa.Array, kind: Kind) -> pa.Array:
    """Bring a column to the Arrow type of its kind. NaN becomes null: it is no value, so it tells nothing."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if kind == "time":
        column = _within_microseconds(column)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.string())  # Arrow's cast to doubles is off by one in the last place
    if column.type != STORED[kind]:
        column = column.cast(STORED[kind], safe=False)
    return without_nan(column) if kind == "float" else column


def _within_microseconds(column: pa.Array) -> pa.Array:
    """Replace times that 64 bits cannot hold in microseconds by the first or last one that they can."""
    if pa.types.is_date(column.type):
        unit = "s" if pa.types.is_date32(column.type) else "ms"
        days = column.cast(pa.int32()) if unit == "s" else None
        seconds = pc.multiply(days.cast(pa.int64()), 86_400) if days is not None else column.cast(pa.int64())
        column = seconds.cast(pa.timestamp(unit))
    factor = {"s": 1_000_000, "ms": 1_000}.get(column.type.unit)
    if factor is None:
        return column
    numbers, most = column.cast(pa.int64()), (2**63 - 1) // factor
    within = pc.min_element_wise(
        pc.max_element_wise(numbers, -most, skip_nulls=False), most, skip_nulls=False
    )
    return within.cast(column.type)


def summary(value: bytes | list[Any]) -> str:
    """Return what stands for bytes or a list where people read: its size and a digest of its content."""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes, SHA-256 {hashlib.sha256(value).hexdigest()[:12]}"
    return f"list of {len(value):,}, SHA-256 {hashlib.sha256(repr(value).encode()).hexdigest()[:12]}"


def without_nan(values: Any) -> Any:
    """Replace NaN by null.

    :param values: array or scalar of doubles.
    :return: the same without NaN.
    """
    return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)


def common_kind(kinds: Sequence[Kind]) -> Kind | None:
    """Return the kind that values of several kinds are compared in.

    :param kinds: at least one.
    :return: the kind; None if they cannot be compared.
    """
    found = set(kinds) - {"null"}
    if not found:
        return "null"
    if found <= NUMBERS and len(found) == 2:
        return "float"
    return found.pop() if len(found) == 1 else None
