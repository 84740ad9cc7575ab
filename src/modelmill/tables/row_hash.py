"""Hashes of rows, made of Arrow values: the same on every engine and for every partitioning.

Arrow has no SHA-256, and an engine's own ``sha2`` needs the row as text, which each engine spells otherwise.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

if TYPE_CHECKING:
    import pyarrow as pa

Digests = npt.NDArray[np.uint8]
"""``(rows, 32)``."""


def row_strings(columns: Sequence[pa.Array]) -> pa.Array:
    """Return each row as one string; different rows have different strings."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts: list[Any] = []
    for column in columns:
        text = _canonical(column)
        # A null has no length; any text that stood for it could be some row's own.
        length = pc.binary_length(text).cast(pa.large_string())
        parts += [pc.fill_null(length, ""), pc.fill_null(text, "")]
    return pc.binary_join_element_wise(*parts, pa.scalar("\x1f", pa.large_string()))


def _canonical(column: pa.Array) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return hexadecimal(sha256_rows(column), mask=column)
    if pa.types.is_nested(column.type):
        values = column.to_pylist()
        return pa.array(
            [None if value is None else json.dumps(value, default=str, sort_keys=True) for value in values],
            pa.large_string(),
        )
    return column.cast(pa.large_string())


def sha256_rows(column: pa.Array, *, prefix: bytes = b"") -> Digests:
    """Return the SHA-256 of each value.

    :param column: strings or binary values; null counts as empty.
    :param prefix: bytes before each value.
    :return: ``(rows, 32)``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    binary = pc.fill_null(column.cast(pa.large_binary()), b"")
    _, places, data = binary.buffers()
    ends = np.frombuffer(places, np.int64)[binary.offset : binary.offset + len(binary) + 1].tolist()
    view = memoryview(data if data is not None else b"")
    start = hashlib.sha256(prefix)
    digests = []
    for begin, end in itertools.pairwise(ends):
        digest = start.copy()
        digest.update(view[begin:end])
        digests.append(digest.digest())
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def hexadecimal(digests: Digests, *, mask: pa.Array | None = None) -> pa.Array:
    """Return digests as strings of 64 hexadecimal digits.

    :param digests: the digests.
    :param mask: column whose nulls are kept; None: there are none.
    :return: strings.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    text = digests.tobytes().hex().encode()
    offsets = np.arange(0, len(text) + 1, 64, dtype=np.int64)
    strings = pa.LargeStringArray.from_buffers(len(digests), pa.py_buffer(offsets), pa.py_buffer(text))
    return strings if mask is None else pc.if_else(pc.is_valid(mask), strings, None)


def int64_of_digests(digests: Digests, place: int) -> pa.Array:
    """Return 64 bits of each digest.

    :param digests: the digests.
    :param place: which 64 bits, from 0 to 3.
    :return: 64-bit integers.
    """
    import pyarrow as pa

    return pa.array(digests[:, 8 * place : 8 * place + 8].copy().view("<i8").reshape(-1))


def matched(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Match values of one side with equal ones of the other, one by one.

    :param one: values.
    :param other: values.
    :return: for each value of the first side whether it is matched; of copies, the first ones are.
    """
    order = np.argsort(one, kind="stable")
    ordered = one[order]
    place = np.arange(len(one)) - np.searchsorted(ordered, ordered)
    values, counts = np.unique(other, return_counts=True)
    if not len(values):
        return np.zeros(len(one), bool)
    at = np.minimum(np.searchsorted(values, ordered), len(values) - 1)
    there = np.where(values[at] == ordered, counts[at], 0)
    matched = np.empty(len(one), bool)
    matched[order] = place < there
    return matched
