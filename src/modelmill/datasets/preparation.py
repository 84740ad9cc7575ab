"""What is known of a row by itself: labels, split, identities, and why it is refused, if it is.

One function over record batches, which the Spark job calls on whole tables and an incremental build on rows
that changed, so both treat a row alike on every engine.
"""

from __future__ import annotations

import os
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.datasets.contract import broken_contract
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.prepared_columns import TEST, TRAIN, VALIDATION, Preparation
from modelmill.tables.row_hash import Digests, hexadecimal, int64_of_digests, row_strings, sha256_rows
from modelmill.tokens.contents import BLANKS, CONTENTS

if TYPE_CHECKING:
    import pyarrow as pa

_SPLIT_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "val": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
}
_ROWS_OF_A_PREFIX = 1 << 14
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"


def prepare(rows: pa.RecordBatch, plan: Preparation) -> pa.RecordBatch:
    """Add to each row what is known of it by itself.

    :param rows: rows of the source, all columns of the plan's schema.
    :param plan: how they are prepared.
    :return: the rows with the columns of :attr:`Preparation.added`; ``_mm_reason`` is null for usable rows.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    options = plan.options
    columns = {field.name: _as(rows.column(field.name), field.type) for field in plan.schema}
    content, empty = _content(columns, options)
    labels, bad_labels = _labels(columns, plan)
    key = _identity(columns[options.key]) if options.key else hexadecimal(content)
    shipped, bad_split = _shipped(columns, options)
    group = pc.coalesce(_identity(columns[options.split.group]), key) if options.split.group else key
    reasons = [
        (empty, _empty(options)),
        (_undecodable(columns, options), "image cannot be decoded"),
        (pc.is_null(key), "key is null"),
        *bad_labels,
        *bad_split,
    ]
    reason = reduce(
        lambda later, case: pc.if_else(case[0], case[1], later),
        reversed(reasons),
        broken_contract(columns, options.contract),
    )
    key_hash = sha256_rows(key)
    added = [
        _row_ids(len(rows)),
        int64_of_digests(sha256_rows(row_strings(_told_apart(columns, content, options))), 0),
        _order(key),
        *(int64_of_digests(content, place) for place in (0, 1)),
        *(int64_of_digests(key_hash, place) for place in (0, 1)),
        key,
        shipped,
        _carved(group, options),
        int64_of_digests(key_hash if group is key else sha256_rows(group), 0),
        reason,
        *labels,
        _buckets(columns, options, pc.is_null(reason)),
    ]
    arrays = [array.cast(field.type) for array, field in zip(added, plan.added, strict=True)]
    names = [*rows.schema.names, *plan.added.names]
    return pa.RecordBatch.from_arrays([*rows.columns, *arrays], names=names)


def _told_apart(columns: dict[str, pa.Array], content: Digests, options: BuildOptions) -> list[pa.Array]:
    """Return all columns, with a text replaced by its hash, which is known already."""
    known = {}
    if len(options.contents) == 1:
        name = options.contents[0]
        known[name] = hexadecimal(content, mask=columns[name])
    return [known.get(name, columns[name]) for name in sorted(columns)]


def _as(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    return column if column.type == wanted else column.cast(wanted)


def _empty(options: BuildOptions) -> str:
    if options.text is not None and options.image is not None:
        return "text and image are empty"
    return "image is empty" if options.text is None else "text is empty"


def _undecodable(columns: dict[str, pa.Array], options: BuildOptions) -> pa.Array:
    """Return which rows are an image that no model reads. The path of one is not followed, and beside a text
    it may be anything.
    """
    import pyarrow as pa

    image = CONTENTS["image"]
    column = None if options.image is None or options.text is not None else columns[options.image]
    if column is None or not image.fits(column.type):
        return pa.array(np.zeros(len(next(iter(columns.values()))), bool))
    return pa.array(
        [image.is_there(one) and image.problem(one) is not None for one in column.to_pylist()], pa.bool_()
    )


def _content(columns: dict[str, pa.Array], options: BuildOptions) -> tuple[Digests, pa.Array]:
    """Return the SHA-256 of each row's content, ``(rows, 32)``, and which rows have none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts, empty = [], []
    for name in options.contents:
        column = columns[name]
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            parts.append(column.cast(pa.large_binary()))
            empty.append(pc.equal(pc.binary_length(pc.fill_null(parts[-1], b"")), 0))
        else:
            text = _text(column)
            parts.append(text.cast(pa.large_binary()))
            empty.append(_blank(text))
    if len(parts) == 1:
        return sha256_rows(parts[0]), empty[0]
    digests = np.concatenate([sha256_rows(part) for part in parts], axis=1)
    both = pa.array([row.tobytes() for row in digests], pa.large_binary())
    return sha256_rows(both), reduce(pc.and_, empty)


def _text(column: pa.Array) -> pa.Array:
    import pyarrow as pa

    return column.cast(pa.large_string())


def _identity(column: pa.Array) -> pa.Array:
    """Return keys as texts; NaN is no key."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return _text(column)


def _blank(texts: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.equal(pc.utf8_trim(pc.fill_null(texts, ""), characters=BLANKS), "")


def _labels(columns: dict[str, pa.Array], plan: Preparation) -> tuple[list[pa.Array], list[tuple[Any, str]]]:
    """Return the labels, and for which reasons which rows cannot be used."""
    import pyarrow.compute as pc

    labels, bad = [], []
    for name, kind in zip(plan.options.labels, plan.kinds, strict=True):
        column = columns[name]
        if kind == "classes":
            labels.append(_classes(column))
        elif kind == "number":
            label, wrong = _number(column)
            labels.append(label)
            bad.append((wrong, f"label {name} is not a finite number"))
        else:
            # As the words of a split: blanks around a class are an accident of whoever typed it.
            text = pc.utf8_trim(_text(column), characters=BLANKS)
            labels.append(pc.if_else(pc.equal(text, ""), None, text))
    missing = reduce(pc.and_, [pc.is_null(label) for label in labels])
    return labels, [*bad, (missing, "no label")]


def _number(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        text = pc.utf8_trim(_text(column), characters=BLANKS)
        text = pc.if_else(pc.equal(text, ""), None, text)
        good = pc.fill_null(pc.match_substring_regex(text, _NUMBER), True)
        number = pc.if_else(good, text, None).cast(pa.float64())
    else:
        good, number = True, column.cast(pa.float64(), safe=False)
    finite = pc.fill_null(pc.is_finite(number), True)
    return pc.if_else(finite, number, None), pc.invert(pc.and_(finite, good))


def _classes(column: pa.Array) -> pa.Array:
    import pyarrow as pa

    # Cast by Arrow, so that a class is spelt in a list as it is alone: true, 1, 2026-02-28.
    rows = column.cast(pa.list_(pa.string())).to_pylist()
    found = [
        None if row is None else sorted({item.strip(BLANKS) for item in row if item is not None} - {""})
        for row in rows
    ]
    return pa.array(found, pa.list_(pa.string()))


def _shipped(columns: dict[str, pa.Array], options: BuildOptions) -> tuple[pa.Array, list[tuple[Any, str]]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if options.split.column is None:
        return pa.nulls(len(next(iter(columns.values()))), pa.int8()), []
    words = pc.utf8_lower(pc.utf8_trim(_text(columns[options.split.column]), characters=BLANKS))
    words = pc.if_else(pc.equal(words, ""), None, words)
    place = pc.index_in(words, value_set=pa.array(list(_SPLIT_NAMES), pa.large_string()))
    known = pa.array(list(_SPLIT_NAMES.values()), pa.int8()).take(place)
    return known, [(pc.is_null(words), "split is null"), (pc.is_null(known), "split is unknown")]


def _carved(group: pa.Array, options: BuildOptions) -> pa.Array:
    """Return the split by the group's hash; it depends on nothing else, so it never changes."""
    import pyarrow as pa

    split = np.where(_shares(group, "validation") < options.split.validation, VALIDATION, TRAIN)
    if options.split.column is None:
        split = np.where(_shares(group, "test") < options.split.test, TEST, split)
    return pa.array(split.astype(np.int8))


def _shares(group: pa.Array, salt: str) -> npt.NDArray[np.float64]:
    """Return a number from 0 to 1 for each group, independent for each salt: 52 bits of a SHA-256."""
    digests = sha256_rows(group, prefix=f"modelmill/{salt}/".encode())
    first = digests[:, :8].copy().view(">u8").reshape(-1)
    return (first >> np.uint64(12)).astype(np.float64) / float(1 << 52)


def _buckets(columns: dict[str, pa.Array], options: BuildOptions, usable: pa.Array) -> pa.Array:
    """Return the buckets of each usable text with words, else none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from modelmill.datasets.minhash import Banding, buckets, packed

    if options.similar_texts is None or options.text is None:
        return pa.array([b""] * len(usable), pa.binary())
    texts = _text(columns[options.text])
    if not pc.all(usable).as_py():
        texts = pc.if_else(usable, texts, None)
    return packed(*buckets(texts, Banding.for_threshold(options.similar_texts)))


def _order(key: pa.Array) -> pa.Array:
    """Return the number at the end of each key, by which copies are ordered.

    Keys mostly count up, so of several copies the oldest one stays, night after night.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.extract_regex(key, r"(?P<n>\d{1,18})$").field("n") if len(key) else key
    found = pc.if_else(pc.equal(pc.fill_null(found, ""), ""), None, found)
    return pc.fill_null(found.cast(pa.int64()), np.iinfo(np.int64).max)


def _row_ids(count: int) -> pa.Array:
    """Return unique numbers: 49 random bits for each 16,384 rows, and 14 bits for the place among them."""
    import pyarrow as pa

    random = np.frombuffer(os.urandom(8 * (count // _ROWS_OF_A_PREFIX + 1)), np.uint64) >> np.uint64(15)
    places = np.arange(count)
    prefixes = random.astype(np.int64)[places // _ROWS_OF_A_PREFIX] * _ROWS_OF_A_PREFIX
    return pa.array(prefixes + places % _ROWS_OF_A_PREFIX)
