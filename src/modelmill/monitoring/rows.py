"""The rows of a scored table and of a dataset, as columns that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from modelmill.datasets.minhash import shingles
from modelmill.datasets.word_hashes import Hashes, Offsets, word_hashes
from modelmill.monitoring.drift import MISSING, Classes, Column, Floats, Numbers

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_OF_A_CLASS = 5
"""A column with fewer rows for each of its values is a key, an address or a text, and no class."""
_MOST_WORDS = 3
"""Words between spaces, on average, above which a text is of a script without spaces."""


def column_of(name: str, reference: pa.ChunkedArray, current: pa.ChunkedArray) -> Column | str:
    """Return a column as it can be compared, or why it cannot.

    :param name: of the column.
    :param reference: its values in the training data.
    :param current: its values in the scored table.
    :return: the column, or the reason in a few words.
    """
    import pyarrow.types as types

    kinds = {_kind(side.type) for side in (reference, current)}
    if len(kinds) > 1:
        return f"types differ: {reference.type} and {current.type}"
    (kind,) = kinds
    if kind == "number":
        return Numbers(name, floats(reference), floats(current))
    if kind != "class":
        return "a time" if types.is_temporal(current.type) else f"type {current.type}"
    sides = [counts(side) for side in (reference, current)]
    if any(len(side) * _ROWS_OF_A_CLASS > sum(side.values()) for side in sides):
        return f"fewer than {_ROWS_OF_A_CLASS} rows for each value"
    return Classes(name, sides[0], sides[1])


def _kind(type_: pa.DataType) -> str:
    import pyarrow.types as types

    if types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_):
        return "number"
    if types.is_boolean(type_) or types.is_string(type_) or types.is_large_string(type_):
        return "class"
    return str(type_)


def floats(values: pa.ChunkedArray) -> Floats:
    """Return numbers, NaN for null and for what is not finite.

    :param values: a column of numbers.
    :return: ``(rows,)``.
    """
    import pyarrow as pa

    found: Floats = values.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def counts(values: pa.ChunkedArray) -> dict[str, int]:
    """Return the rows of each class; null is a class of its own.

    :param values: a column of texts or truth values.
    :return: rows by class.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.value_counts(values.cast(pa.string()))
    return {
        MISSING if item["values"] is None else item["values"]: item["counts"] for item in found.to_pylist()
    }


def text_columns(
    name: str, reference: pa.ChunkedArray, held_out: pa.ChunkedArray, current: pa.ChunkedArray
) -> list[Column]:
    """Return what is measured of texts: their length, and how many of their words are new.

    :param name: of the text column.
    :param reference: texts that the model learned from.
    :param held_out: texts that it did not learn from: some of their words are new, too.
    :param current: texts that were scored.
    :return: the columns.
    """
    import pyarrow.compute as pc

    words = _words(reference)
    tokens = pc.sum(pc.count_substring_regex(reference, r"\S+")).as_py() or 0
    # Most characters of a script without spaces are known, but not beside each other.
    find = _words if len(words[0]) <= _MOST_WORDS * tokens else _neighbours
    vocabulary = np.unique(find(reference)[0])
    return [
        Numbers(f"{name}: characters", _lengths(reference), _lengths(current)),
        Numbers(
            f"{name}: share of new words",
            _new_words(*find(held_out), vocabulary),
            _new_words(*find(current), vocabulary),
        ),
    ]


def _lengths(texts: pa.ChunkedArray) -> Floats:
    import pyarrow.compute as pc

    return floats(pc.utf8_length(texts))


def _words(texts: pa.ChunkedArray) -> tuple[Hashes, Offsets]:
    return word_hashes(texts.combine_chunks())


def _neighbours(texts: pa.ChunkedArray) -> tuple[Hashes, Offsets]:
    return shingles(texts.combine_chunks())


def _new_words(words: Hashes, offsets: Offsets, vocabulary: Hashes) -> Floats:
    """Return the share of each text's words that are new; NaN without any word."""
    new = np.append(0, np.cumsum(~np.isin(words, vocabulary)))
    total = np.diff(offsets)
    return np.where(total > 0, np.diff(new[offsets]) / np.maximum(total, 1), np.nan)


def without_seen(texts: pa.ChunkedArray, learned: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which rows the model did not learn from: on those it did, it is surer than it should be.

    :param texts: texts that were scored.
    :param learned: texts of the train split.
    :return: truth values, one for each text.
    """
    import pyarrow.compute as pc

    return pc.invert(pc.is_in(texts, value_set=learned.combine_chunks()))


def sampled(table: pa.Table, *, limit: int) -> pa.Table:
    """Return at most so many rows of a table: always the same ones.

    :param table: the rows.
    :param limit: number of rows.
    :return: the rows, in their order.
    """
    if table.num_rows <= limit:
        return table
    chosen = np.random.default_rng(0).choice(table.num_rows, size=limit, replace=False)
    return table.take(np.sort(chosen))


def shared_columns(
    reference: Mapping[str, pa.ChunkedArray], current: Mapping[str, pa.ChunkedArray]
) -> tuple[list[Column], dict[str, str]]:
    """Return the columns that two tables share as they can be compared.

    :param reference: columns of the training data.
    :param current: the same columns of the scored table.
    :return: the columns, and for each that cannot be compared the reason.
    """
    columns: list[Column] = []
    skipped: dict[str, str] = {}
    for name, values in reference.items():
        found = column_of(name, values, current[name])
        if isinstance(found, str):
            skipped[name] = found
        else:
            columns.append(found)
    return columns, skipped
