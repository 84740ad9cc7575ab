"""Texts of one dataset that a model has met in another one: the same text, or a near copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef
from modelmill.datasets.build_record import find_build
from modelmill.datasets.minhash import Banding, buckets, similarity
from modelmill.datasets.options import BuildOptions

if TYPE_CHECKING:
    import pyarrow as pa

Mask = npt.NDArray[np.bool_]

_FOUND_AT_THRESHOLD = 0.9999
"""Smallest probability that a pair exactly at the threshold is compared."""
_MOST_HASHES = 192
_TEXTS_EACH = 100_000
_PAIRS_EACH = 1_000_000


@dataclass(frozen=True)
class Copies:
    """Which texts are copies of others, ``(texts,)``."""

    exact: Mask
    near: Mask
    """Not the same text, but as similar as the threshold or more."""

    @property
    def any(self) -> Mask:
        """Which texts are either."""
        return np.asarray(self.exact | self.near)


def similar_texts(dataset: DatasetRef) -> float | None:
    """Return the similarity from which two texts of a dataset count as one; None if only equal ones do."""
    build = find_build(dataset.uri, dataset.version)
    if (
        build is None or "similar_texts" not in build.model_fields_set
    ):  # an earlier modelmill did not record it
        default: float | None = BuildOptions.model_fields["near_duplicates"].default
        return default
    return build.similar_texts


def find_copies(texts: pa.Array, others: pa.Array, *, threshold: float | None) -> Copies:
    """Find the texts that are equal to one of the others, or nearly so.

    Near copies are found by MinHash and compared exactly, see :mod:`modelmill.datasets.minhash`.

    :param texts: strings without nulls; without a threshold also binary values.
    :param others: values of the same type without nulls, any number.
    :param threshold: Jaccard similarity from which a text is a near copy; None: only equal ones count.
    :return: which texts are copies.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if threshold is not None:
        texts, others = texts.cast(pa.large_string()), others.cast(pa.large_string())
    exact = pc.is_in(texts, value_set=pc.unique(others)).to_numpy(zero_copy_only=False)
    near = np.zeros(len(texts), bool)
    if threshold is None or not len(texts) or not len(others):
        return Copies(exact, near)
    banding = _banding(threshold)
    bucket, owner = _entries(texts, banding)
    order = np.argsort(bucket, kind="stable")
    bucket, owner = bucket[order], owner[order]
    for start in range(0, len(others), _TEXTS_EACH):
        part = others[start : start + _TEXTS_EACH]
        _mark_near(near, exact, texts, part, (bucket, owner), banding=banding, threshold=threshold)
    return Copies(exact, near)


def _banding(threshold: float) -> Banding:
    """Return the longest bands of all hashes that miss hardly any pair at the threshold."""
    for rows in range(16, 0, -1):
        bands = _MOST_HASHES // rows
        if 1 - (1 - threshold**rows) ** bands >= _FOUND_AT_THRESHOLD:
            return Banding(bands=bands, rows=rows)
    return Banding(bands=_MOST_HASHES, rows=1)


def _entries(texts: pa.Array, banding: Banding) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the buckets of all texts one after the other, and each one's text."""
    found, has_words = buckets(texts, banding)
    return found.ravel(), np.repeat(np.flatnonzero(has_words), banding.bands)


def _mark_near(
    near: Mask,
    exact: Mask,
    texts: pa.Array,
    others: pa.Array,
    known: tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]],
    *,
    banding: Banding,
    threshold: float,
) -> None:
    """Mark the texts that are near copies of some others."""
    import pyarrow as pa

    bucket, owner = known
    met, other = _entries(others, banding)
    first, last = np.searchsorted(bucket, met, "left"), np.searchsorted(bucket, met, "right")
    shared = np.flatnonzero(last > first)
    sizes = (last - first)[shared]
    ends = np.cumsum(sizes)
    begin = 0
    while begin < len(shared):
        done = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, done + _PAIRS_EACH, "right")), begin + 1)
        chosen, count = shared[begin:end], sizes[begin:end]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        pairs = np.stack(
            [owner[np.repeat(first[chosen], count) + within], np.repeat(other[chosen], count)], 1
        )
        begin = end
        # Most of what is alike is found at once: it need not be compared again.
        pairs = np.unique(pairs[~(near | exact)[pairs[:, 0]]], axis=0)
        if not len(pairs):
            continue
        ours, one = np.unique(pairs[:, 0], return_inverse=True)
        theirs, two = np.unique(pairs[:, 1], return_inverse=True)
        both = pa.concat_arrays([texts.take(pa.array(ours)), others.take(pa.array(theirs))])
        alike = similarity(both, one, two + len(ours)) >= threshold
        near[pairs[alike, 0]] = True
