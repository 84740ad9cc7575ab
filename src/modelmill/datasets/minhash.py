"""Near-duplicate texts: shingles, MinHash signatures, their bands, and the exact similarity of pairs.

A text is the set of its pairs of neighbouring words, upper and lower case alike; a text of one word is that
word. (Single words would make all texts of a language a little alike, and a little is much among a billion
pairs.) Two texts are near-duplicates if the Jaccard similarity of their sets reaches a threshold. Candidates
are found by MinHash (Broder, "On the resemblance and containment of documents", 1997) with locality-sensitive
hashing in bands (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4), and each is then
checked exactly: chance can hide a pair of near-duplicates, but never make one.

Measured against datasketch, used as its documentation shows: a build deduplicates 17,065 rows per CPU second
instead of 830 (benchmarks/README.md). rensa's signatures alone are 63 times as fast as datasketch's; it takes
texts one by one as lists of words, and was not measured in a build.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.datasets.word_hashes import Hashes, Offsets, constants, word_hashes

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_HASHES = 192
_FOUND_AT_THRESHOLD = 0.95
"""Smallest probability that a pair exactly at the threshold becomes a candidate."""
_HASHES_EACH = 1 << 15

CROWDED = 100
"""Texts of a bucket above which not all pairs are compared."""
_PAIRED_WITH = 4

_ODD_1, _ODD_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_HALF, _LOWER = np.uint64(32), np.uint64(0xFFFFFFFF)
_PERMUTATIONS = constants("permutation", _MOST_HASHES).astype(np.uint32) | np.uint32(1)


@dataclass(frozen=True)
class Banding:
    """How a signature is cut into bands."""

    bands: int
    rows: int
    """Hashes in a band."""

    @classmethod
    def for_threshold(cls, threshold: float) -> Banding:
        """Return the longest bands that still find pairs at a threshold.

        :param threshold: Jaccard similarity, above 0 and at most 1.
        :return: the banding with the fewest false candidates among those with at most 192 hashes.
        """
        for rows in range(16, 1, -1):
            for bands in range(1, _MOST_HASHES // rows + 1):
                if 1 - (1 - threshold**rows) ** bands >= _FOUND_AT_THRESHOLD:
                    return cls(bands=bands, rows=rows)
        return cls(bands=_MOST_HASHES, rows=1)


def shingles(texts: pa.Array) -> tuple[Hashes, Offsets]:
    """Return the hashes of each text's pairs of neighbouring words, with repetitions; of one word, the word.

    :param texts: strings; null counts as empty.
    :return: the hashes of all texts one after the other, and where each text's begin, ``(texts + 1,)``.
    """
    return _pairs(*word_hashes(texts))


def _pairs(words: Hashes, offsets: Offsets) -> tuple[Hashes, Offsets]:
    """Return the pairs of neighbouring words of each text, or its only word."""
    if not len(words):
        return words, offsets
    pairs = words * _ODD_1
    pairs[:-1] ^= words[1:] * _ODD_2
    sizes = np.diff(offsets)
    ends = offsets[1:] - 1
    alone = ends[sizes == 1]
    pairs[alone] = words[alone]
    begun = np.ones(len(words), bool)
    begun[ends[sizes > 1]] = False  # no word of the same text follows
    return pairs[begun], np.concatenate([[0], np.cumsum(np.where(sizes > 1, sizes - 1, sizes))])


def buckets(texts: pa.Array, banding: Banding) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Return the bucket of each text in each band: near-duplicates very probably share one.

    :param texts: strings; null counts as empty.
    :param banding: how signatures are cut.
    :return: ``(texts with words, bands)``, buckets of different bands differ up to chance; and which texts
        have words, ``(texts,)``.
    """
    hashes, offsets = shingles(texts)
    has_words = np.diff(offsets) > 0
    starts = offsets[:-1][has_words]
    found = np.empty((len(starts), banding.bands), np.int32)
    # Few enough at a time for the processor's cache, which they pass through once for each permutation.
    edges = np.searchsorted(starts, np.arange(0, len(hashes), _HASHES_EACH))
    for first, last in itertools.pairwise(np.unique([*edges, len(starts)]).tolist()):
        end = starts[last] if last < len(starts) else len(hashes)
        part = (hashes[starts[first] : end] >> np.uint64(32)).astype(np.uint32)
        found[first:last] = _bands(part, starts[first:last] - starts[first], banding)
    return found, has_words


def _bands(hashes: npt.NDArray[np.uint32], starts: Offsets, banding: Banding) -> npt.NDArray[np.int32]:
    """Return the bands of the signatures of texts: for each permutation the smallest of a text's hashes."""
    permuted = np.empty(len(hashes), np.uint32)
    permutations = _PERMUTATIONS[: banding.bands * banding.rows]
    minima = np.empty((len(permutations), len(starts)), np.uint32)
    for factor, smallest in zip(permutations, minima, strict=True):
        # To multiply by an odd number permutes the whole numbers below 2**32.
        np.multiply(hashes, factor, out=permuted)
        np.minimum.reduceat(permuted, starts, out=smallest)
    bands = np.repeat(np.arange(banding.bands, dtype=np.uint64)[:, None] * _ODD_2, len(starts), axis=1)
    for row in range(banding.rows):
        bands ^= minima[row :: banding.rows]
        bands *= _ODD_1
        bands ^= bands >> np.uint64(29)
    return (bands.T >> np.uint64(32)).astype(np.uint32).view(np.int32)


def packed(buckets_: npt.NDArray[np.int32], has_words: npt.NDArray[np.bool_]) -> pa.Array:
    """Return buckets as a column: 4 bytes for each, as tables hold them.

    :param buckets_: the buckets, see :func:`buckets`.
    :param has_words: which rows have them.
    :return: binary values, ``(rows,)``; empty ones for rows without.
    """
    import pyarrow as pa

    offsets = np.zeros(len(has_words) + 1, np.int32)
    np.cumsum(has_words * (4 * buckets_.shape[1]), out=offsets[1:])
    data = np.ascontiguousarray(buckets_, "<i4")
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(has_words), buffers)


def unpacked(column: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the buckets of a column that :func:`packed` made.

    :param column: the column, without nulls.
    :return: the buckets of all rows one after the other, and each one's row, ``(buckets,)``.
    """
    found, sizes = _unpacked(column)
    return found, np.repeat(np.arange(len(sizes)), sizes)


def unpacked_bands(column: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the buckets of a column that :func:`packed` made, band by band.

    :param column: the column, without nulls.
    :return: the buckets of the rows that have some, ``(bands, rows)``; the rows.
    """
    found, sizes = _unpacked(column)
    rows = np.flatnonzero(sizes)
    return found.reshape(len(rows), int(sizes.max(initial=0))).T, rows


def _unpacked(column: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the buckets of all rows one after the other, and how many each row has."""
    import pyarrow as pa

    binary = column.cast(pa.large_binary())
    _, places, data = binary.buffers()
    ends = np.frombuffer(places, np.int64)[binary.offset : binary.offset + len(binary) + 1]
    return np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]].view("<i4"), np.diff(ends) // 4


def candidate_pairs(
    bucket: npt.NDArray[np.int32], text: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Return the pairs of texts that share a bucket.

    A crowded bucket (over 100 texts, such as a boilerplate's) would have a square of pairs: there each text
    is paired with the 4 first ones only, and the caller is told.

    :param bucket: ``(entries,)``, all entries of each bucket.
    :param text: identity of each entry's text.
    :return: distinct pairs with the smaller identity first, ``(pairs, 2)``; whether each is from a crowded
        bucket; the crowded buckets.
    """
    shared = _in_company(bucket)
    bucket, text = bucket[shared], text[shared]
    order = np.lexsort((text, bucket))
    bucket, text = bucket[order], text[order]
    fresh = np.ones(len(text), bool)
    fresh[1:] = (bucket[1:] != bucket[:-1]) | (text[1:] != text[:-1])
    bucket, text = bucket[fresh], text[fresh]
    starts = np.flatnonzero(np.concatenate([[True], bucket[1:] != bucket[:-1]])) if len(bucket) else bucket
    sizes = np.diff(np.append(starts, len(bucket)))
    crowded = np.repeat(sizes > CROWDED, sizes)
    place = np.arange(len(bucket)) - np.repeat(starts, sizes)
    found = [np.empty((0, 2), np.int64)]
    for lag in range(1, min(int(sizes.max(initial=1)), CROWDED)):
        later = np.flatnonzero((place >= lag) & ~crowded)
        found.append(np.stack([text[later - lag], text[later]], axis=1))
    for first in range(_PAIRED_WITH):
        later = np.flatnonzero(crowded & (place > first))
        found.append(np.stack([text[later - place[later] + first], text[later]], axis=1))
    if not crowded.any():
        pairs = np.unique(np.concatenate(found), axis=0)
        return pairs, np.zeros(len(pairs), bool), np.empty(0, np.int32)
    hubs = sum(map(len, found[-_PAIRED_WITH:]))
    pairs, places = np.unique(np.concatenate(found[::-1]), axis=0, return_index=True)
    return pairs, places < hubs, np.unique(bucket[crowded])


def pairs_by_band(
    bands: Iterable[npt.NDArray[np.int32]], text: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], npt.NDArray[np.int32]]:
    """Return the pairs of texts that share a bucket of one band.

    Buckets of different bands are equal by chance alone, but of 10 million texts 12 million pairs have such.

    :param bands: the buckets of all texts, band by band, ``(texts,)`` each.
    :param text: identity of each text.
    :return: see :func:`candidate_pairs`; a pair is from a crowded bucket if one of its buckets is.
    """
    found = [candidate_pairs(bucket, text) for bucket in bands]
    pairs = np.concatenate([np.empty((0, 2), np.int64), *(pairs for pairs, _, _ in found)])
    flags = np.concatenate([np.empty(0, bool), *(flags for _, flags, _ in found)])
    order = np.lexsort((~flags, pairs[:, 1], pairs[:, 0]))
    pairs, flags = pairs[order], flags[order]
    first = np.ones(len(pairs), bool)
    first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    crowded = np.unique(np.concatenate([np.empty(0, np.int32), *(crowded for _, _, crowded in found)]))
    return pairs[first], flags[first], crowded


def _in_company(bucket: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Return the places of entries whose bucket has others: few, and numbers alone are sorted fast."""
    keys = bucket.astype(np.uint32).astype(np.uint64) << _HALF
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    same = (keys[1:] ^ keys[:-1]) >> _HALF == 0
    shared = np.zeros(len(keys), bool)
    shared[1:] |= same
    shared[:-1] |= same
    return (keys[shared] & _LOWER).astype(np.int64)


def similarity(
    texts: pa.Array, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the Jaccard similarity of pairs of texts, exactly.

    :param texts: strings.
    :param first: place in ``texts`` of each pair's first text, ``(pairs,)``.
    :param second: place of its second text.
    :return: from 0 to 1, ``(pairs,)``; 0 where both texts are without words.
    """
    import pyarrow as pa

    hashes, offsets = shingles(texts)
    # Small numbers for hashes, so that one sort of whole numbers brings equal ones of a text together.
    codes = np.asarray(pa.array(hashes).dictionary_encode().indices, np.uint64)
    owners = np.repeat(np.arange(len(texts), dtype=np.uint64) << _HALF, np.diff(offsets))
    members = np.sort(owners | codes)
    members = members[np.append(True, members[1:] != members[:-1])[: len(members)]]
    ends = np.searchsorted(members, np.arange(len(texts) + 1, dtype=np.uint64) << _HALF)
    starts, sizes = ends[:-1], np.diff(ends)
    codes = members & _LOWER
    pair = np.repeat(
        np.tile(np.arange(len(first), dtype=np.uint64), 2), np.concatenate([sizes[first], sizes[second]])
    )
    chosen = np.concatenate([_ranges(starts[first], sizes[first]), _ranges(starts[second], sizes[second])])
    both = np.sort((pair << _HALF) | codes[chosen])
    twice = both[1:][both[1:] == both[:-1]] >> _HALF
    common = np.bincount(twice.astype(np.int64), minlength=len(first)).astype(np.float64)
    union = (sizes[first] + sizes[second]) - common
    found: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros(len(first)), where=union > 0)
    return found


def _ranges(starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return ``starts[0], starts[0] + 1, …`` for each start, one after the other."""
    ends = np.cumsum(sizes)
    places: npt.NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0)
    places += np.repeat(starts - (ends - sizes), sizes)
    return places
