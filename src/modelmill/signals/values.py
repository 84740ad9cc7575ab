"""The kinds of value that an expression has, and how Arrow holds each of them.

Arrow has some forty types; an expression knows five kinds and the literal NULL. Every column is brought to
the one Arrow type of its kind before anything is computed, so that each operation exists once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["boolean", "integer", "float", "text", "time", "null"]

STORED: dict[Kind, pa.DataType] = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "text": pa.large_string(),
    "time": pa.timestamp("us", tz="UTC"),
    "null": pa.null(),
}
NUMBERS: frozenset[Kind] = frozenset({"integer", "float"})


def column_kind(column: pa.DataType) -> Kind | None:
    """Return the kind of a column.

    :param column: its Arrow type.
    :return: the kind; None for a type that expressions do not read (binary, lists, structs, …).
    """
    if pa.types.is_dictionary(column):
        column = column.value_type
    for kind, tests in _TESTS.items():
        if any(test(column) for test in tests):
            return kind
    return None


_TESTS: dict[Kind, tuple[Any, ...]] = {
    "boolean": (pa.types.is_boolean,),
    # Unsigned numbers of 64 bits do not fit signed ones.
    "float": (pa.types.is_floating, pa.types.is_decimal, pa.types.is_uint64),
    "integer": (pa.types.is_integer,),
    "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "time": (pa.types.is_date, pa.types.is_timestamp),
    "null": (pa.types.is_null,),
}


def stored(column: pa.Array, kind: Kind) -> pa.Array:
    """Bring a column to the Arrow type of its kind. NaN becomes null: it is no value, so it tells nothing.

    :param column: the column.
    :param kind: its kind.
    :return: the same values.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"), safe=False)
    if column.type != STORED[kind]:
        column = column.cast(STORED[kind], safe=False)
    return without_nan(column) if kind == "float" else column


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
