"""Summary of a dataset's rows, added up batch by batch: counts, lengths, a content hash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.datasets.options import LabelKind
from modelmill.options import Record
from modelmill.tables.row_hash import row_strings, sha256_rows

if TYPE_CHECKING:
    import pyarrow as pa

_MODULUS = 1 << 256

Moments = tuple[int, Fraction, Fraction]
"""Count, sum and sum of squares. Exact: sums of floats depend on the order, and cannot be subtracted."""


class Summary(Record):
    """Sums over the rows of a dataset, so those of its parts add up to those of the whole."""

    rows: int = 0
    splits: dict[str, int] = {}
    """Rows by split."""
    classes: dict[str, dict[str, dict[str, int]]] = {}
    """Rows by label column, class and split, for labels that are classes."""
    numbers: dict[str, dict[str, Moments]] = {}
    """Count, sum and sum of squares by label column and split, for labels that are numbers."""
    lengths: dict[str, dict[int, int]] = {}
    """Rows by split and length of the text: characters, rounded down to a power of 2."""
    hash: str = "0" * 64
    """Sum of the SHA-256 of all rows, modulo 2**256, as 64 hexadecimal digits: it does not depend on their
    order (AdHash: Bellare, Micciancio, "A new paradigm for collision-free hashing", 1997)."""

    def __add__(self, other: Summary) -> Summary:
        return self._combined(other, 1)

    def __sub__(self, other: Summary) -> Summary:
        return self._combined(other, -1)

    def _combined(self, other: Summary, sign: int) -> Summary:
        mixed = (int(self.hash, 16) + sign * int(other.hash, 16)) % _MODULUS
        return Summary(
            rows=self.rows + sign * other.rows,
            splits=_merged(self.splits, other.splits, sign),
            classes=_merged(self.classes, other.classes, sign),
            numbers=_merged(self.numbers, other.numbers, sign),
            lengths=_merged(self.lengths, other.lengths, sign),
            hash=f"{mixed:064x}",
        )


def _merged(one: Any, other: Any, sign: int) -> Any:
    """Add or subtract nested mappings of numbers; zeros are left out."""
    if isinstance(one, dict) or isinstance(other, dict):
        one, other = one or {}, other or {}
        parts = {name: _merged(one.get(name), other.get(name), sign) for name in sorted({*one, *other})}
        return {name: part for name, part in parts.items() if part}
    if isinstance(one, tuple) or isinstance(other, tuple):
        zero = (0, Fraction(), Fraction())
        sums = tuple(a + sign * b for a, b in zip(one or zero, other or zero, strict=True))
        return sums if sums[0] else None
    return (one or 0) + sign * (other or 0)


def summarise(
    rows: pa.RecordBatch | pa.Table, *, text: str | None, labels: Sequence[tuple[str, LabelKind]], split: str
) -> Summary:
    """Sum up rows of a dataset.

    :param rows: the rows, all columns.
    :param text: column with the text; None if there is none.
    :param labels: label columns and what they hold.
    :param split: column with the split.
    :return: the sums.
    """
    import pyarrow as pa

    columns = {name: _whole(rows.column(name)) for name in rows.schema.names}
    splits = columns[split].to_numpy(zero_copy_only=False)
    classes: dict[str, dict[str, dict[str, int]]] = {}
    numbers: dict[str, dict[str, Moments]] = {}
    for name, kind in labels:
        if kind == "number":
            numbers[name] = _moments(columns[name], splits)
        else:
            classes[name] = _class_counts(columns[name], splits)
    lengths: dict[str, dict[int, int]] = {}
    if text is not None:
        for (part, length), count in _lengths(columns[text], splits).items():
            lengths.setdefault(part, {})[length] = count
    digests = sha256_rows(row_strings([columns[name] for name in sorted(columns)]))
    parts = digests.view(">u4").reshape(-1, 8).astype(np.uint64).sum(axis=0)
    total = sum(int(part) << (32 * (7 - place)) for place, part in enumerate(parts)) % _MODULUS
    counted = pa.array(splits, pa.string()).value_counts().to_pylist()
    return Summary(
        rows=rows.num_rows,
        splits={item["values"]: item["counts"] for item in counted},
        classes=classes,
        numbers=numbers,
        lengths=lengths,
        hash=f"{total:064x}",
    )


def _whole(column: Any) -> pa.Array:
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column


def _class_counts(column: pa.Array, splits: Any) -> dict[str, dict[str, int]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        splits = splits[pc.list_parent_indices(column).to_numpy()]
        column = column.flatten()
    counts = pa.table({"class": column, "split": pa.array(splits, pa.string())})
    counts = (
        counts.filter(pc.is_valid(counts.column("class")))
        .group_by(["class", "split"])
        .aggregate([([], "count_all")])
    )
    found: dict[str, dict[str, int]] = {}
    for row in counts.to_pylist():
        found.setdefault(row["class"], {})[row["split"]] = row["count_all"]
    return found


def _moments(column: pa.Array, splits: Any) -> dict[str, Moments]:
    values = column.to_numpy(zero_copy_only=False)
    found: dict[str, Moments] = {}
    for split in sorted(set(splits)):
        known = values[(splits == split) & ~np.isnan(values)]
        if len(known):
            with np.errstate(over="ignore", under="ignore"):
                squares = np.minimum(known**2, np.finfo(np.float64).max)
            found[str(split)] = (len(known), _exact_sum(known), _exact_sum(squares))
    return found


def _exact_sum(values: npt.NDArray[np.float64]) -> Fraction:
    """Add up finite floats: whole numbers of 53 bits for each exponent, in halves that cannot overflow."""
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64)
    total = Fraction()
    for exponent in np.unique(exponents):
        part = whole[exponents == exponent]
        high, low = int((part >> 26).sum()), int((part & (2**26 - 1)).sum())
        total += ((high << 26) + low) * Fraction(2) ** (int(exponent) - 53)
    return total


def _lengths(column: pa.Array, splits: Any) -> Counter[tuple[str, int]]:
    import pyarrow.compute as pc

    lengths = pc.utf8_length(pc.fill_null(column, "")).to_numpy(zero_copy_only=False)
    rounded = np.where(lengths > 0, 1 << np.log2(np.maximum(lengths, 1)).astype(np.int64), 0)
    found: Counter[tuple[str, int]] = Counter()
    for split in sorted(set(splits)):
        for length, count in zip(*np.unique(rounded[splits == split], return_counts=True), strict=True):
            found[str(split), int(length)] = int(count)
    return found
