"""Near-duplicate texts: shingles, MinHash signatures, their bands, and the exact similarity of pairs.

A text is the set of its pairs of neighbouring words, upper and lower case alike; a text of one word is that
word. (Single words would make all texts of a language a little alike, and a little is much among a billion
pairs.) Two texts are near-duplicates if the Jaccard similarity of their sets reaches a threshold. Candidates
are found by MinHash (Broder, "On the resemblance and containment of documents", 1997) with locality-sensitive
hashing in bands (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4), and each is then
checked exactly: chance can hide a pair of near-duplicates, and can never make one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.data.hashing import numbers_of, sha256_rows

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

_MOST_HASHES = 192
_FOUND_AT_THRESHOLD = 0.95
"""Smallest chance that a pair exactly at the threshold becomes a candidate; well above it, it is near 1."""
_SEED = 42
_BETWEEN_WORDS = r"[^\p{L}\p{N}]+"
_WORDS_OF_ONE_CHARACTER = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}])"
"""Scripts without spaces between words: each character counts as a word."""

CROWDED = 100
"""Texts of a bucket from which not all pairs are looked at."""
_PAIRED_WITH = 4

_SPACED = np.array([code if code >= 128 or chr(code).isalnum() else 32 for code in range(256)], np.uint8)
"""For each byte of UTF-8 what stands for it: a space for ASCII that belongs to no word."""

_ODD_1, _ODD_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


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
    import pyarrow as pa
    import pyarrow.compute as pc

    lower = pc.utf8_lower(pc.fill_null(texts.cast(pa.large_string()), ""))
    if pc.any(pc.match_substring_regex(lower, _WORDS_OF_ONE_CHARACTER)).as_py():
        lower = pc.replace_substring_regex(lower, _WORDS_OF_ONE_CHARACTER, r" \1 ")
    parts = pc.ascii_split_whitespace(_words_apart(lower))
    offsets = parts.offsets.to_numpy().astype(np.int64)
    encoded = parts.values.dictionary_encode()
    of_word = np.asarray(numbers_of(sha256_rows(encoded.dictionary), 0)).view(np.uint64)
    real = of_word[encoded.indices.to_numpy()]
    real = real[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    # Splitting leaves an empty part before a leading and after a trailing space.
    empty = pc.index(encoded.dictionary, "").as_py()
    if empty >= 0:
        is_word = encoded.indices.to_numpy() != empty
        offsets = np.concatenate([[0], np.cumsum(is_word)])[offsets]
        real = real[is_word]
    return _pairs(real, offsets)


def _words_apart(texts: pa.Array) -> pa.Array:
    """Put spaces in place of everything between words. ASCII goes by a table of bytes: a regular expression
    takes five times longer.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    other = pc.invert(pc.string_is_ascii(texts))
    if pc.any(other).as_py():
        replaced = pc.replace_substring_regex(texts.filter(other), _BETWEEN_WORDS, " ")
        texts = pc.replace_with_mask(texts, other, replaced)
    _, places, data = texts.buffers()
    spaced = _SPACED[np.frombuffer(data or b"", np.uint8)]
    return pa.LargeStringArray.from_buffers(len(texts), places, pa.py_buffer(spaced), offset=texts.offset)


def has_words(texts: pa.Array) -> npt.NDArray[np.bool_]:
    """Return which texts have a word.

    :param texts: strings; null counts as empty.
    :return: ``(texts,)``.
    """
    import pyarrow.compute as pc

    found = pc.match_substring_regex(pc.fill_null(texts, ""), r"[\p{L}\p{N}]")
    return np.asarray(found.to_numpy(zero_copy_only=False), bool)


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


def buckets(texts: pa.Array, banding: Banding) -> npt.NDArray[np.int32]:
    """Return the bucket of each text in each band: near-duplicates very probably share one.

    :param texts: strings, none of which lacks words (see :func:`shingles`).
    :param banding: how signatures are cut.
    :return: ``(texts, bands)``; buckets of different bands differ up to chance.
    """
    from rensa import RMinHash

    hashes, offsets = shingles(texts)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets.astype(np.uint64), banding.bands * banding.rows, _SEED
    )
    signatures = np.array(matrix.to_rows(), np.uint64).reshape(len(texts), banding.bands, banding.rows)
    mixed = np.broadcast_to(np.arange(banding.bands, dtype=np.uint64) * _ODD_2, signatures.shape[:2])
    for row in range(banding.rows):
        mixed = (mixed ^ signatures[:, :, row]) * _ODD_1
        mixed = mixed ^ (mixed >> np.uint64(29))
    folded: npt.NDArray[np.int32] = (mixed >> np.uint64(32)).astype(np.uint32).view(np.int32)
    return folded


def candidate_pairs(
    bucket: npt.NDArray[np.int32], text: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return the pairs of texts that share a bucket.

    A crowded bucket (over 100 texts, such as a boilerplate's) would have a square of pairs: there each text
    is paired with the 4 first ones only, and the caller is told.

    :param bucket: ``(entries,)``, all entries of each bucket.
    :param text: identity of each entry's text.
    :return: distinct pairs with the smaller identity first, ``(pairs, 2)``; the crowded buckets.
    """
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
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs, np.unique(bucket[crowded])


def similarity(
    texts: pa.Array, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the Jaccard similarity of pairs of texts, exactly.

    :param texts: strings.
    :param first: place in ``texts`` of each pair's first text, ``(pairs,)``.
    :param second: place of its second text.
    :return: from 0 to 1, ``(pairs,)``; 0 where both texts are without words.
    """
    hashes, offsets = shingles(texts)
    owner = np.repeat(np.arange(len(texts)), np.diff(offsets))
    order = np.lexsort((hashes, owner))
    hashes, owner = hashes[order], owner[order]
    fresh = np.ones(len(hashes), bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    hashes, owner = hashes[fresh], owner[fresh]
    sizes = np.bincount(owner, minlength=len(texts)).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    pair = np.repeat(np.tile(np.arange(len(first)), 2), np.concatenate([sizes[first], sizes[second]]))
    members = np.concatenate([_ranges(starts[first], sizes[first]), _ranges(starts[second], sizes[second])])
    shared = hashes[members]
    order = np.lexsort((shared, pair))
    shared, pair = shared[order], pair[order]
    twice = (shared[1:] == shared[:-1]) & (pair[1:] == pair[:-1])
    common = np.bincount(pair[1:][twice], minlength=len(first)).astype(np.float64)
    union = (sizes[first] + sizes[second]) - common
    found: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros(len(first)), where=union > 0)
    return found


def _ranges(starts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return ``starts[0], starts[0] + 1, …`` for each start, one after the other."""
    ends = np.cumsum(sizes)
    places: npt.NDArray[np.int64] = np.arange(ends[-1] if len(ends) else 0)
    places += np.repeat(starts - (ends - sizes), sizes)
    return places
