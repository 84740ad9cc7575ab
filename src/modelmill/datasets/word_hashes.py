"""The words of texts as hashes of 64 bits, computed from the bytes: no word becomes a Python string.

A word is a run of letters, marks and digits, upper and lower case alike, in the compatibility form NFKC: full
and half width, ligatures and composed letters are alike. In scripts without spaces between words, each letter
with its marks is one, and everywhere each symbol, such as an emoji. Vowel points of Arabic and Hebrew, which
most texts leave out, do not count. The half space of Persian, U+200C, ends a word, since many write a space.

The hash of a word is a polynomial: the sum of a number for each byte, times the power of a base for the
place of the byte (Karp, Rabin, "Efficient randomized pattern-matching algorithms", 1987). Places are counted
in a piece of text, and the inverse power moves each word to the piece's begin.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.datasets.plain_texts import plain

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


_BYTES_EACH = 1 << 16
"""Bytes that are processed together: their numbers fit into a processor's cache."""


def constants(name: str, count: int) -> Hashes:
    """Return arbitrary numbers, the same on every machine.

    :param name: what they are for.
    :param count: how many.
    :return: ``(count,)``.
    """
    digests = (hashlib.sha256(f"modelmill/{name}/{place}".encode()).digest() for place in range(count))
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)


def _of_bytes() -> tuple[Hashes, npt.NDArray[np.bool_]]:
    """Return the number of each byte of UTF-8, upper and lower case alike, and which bytes are of words."""
    numbers = constants("byte", 256)
    is_word = np.array([code >= 128 or chr(code).isalnum() for code in range(256)])
    lower = [code + 32 if 65 <= code <= 90 else code for code in range(256)]
    return np.where(is_word, numbers[lower], np.uint64(0)), is_word


_NUMBER, _IS_WORD = _of_bytes()
_BASE = (int(constants("base", 1)[0]) & ~7) | 3
"""Odd, so that powers have an inverse; and one less than it is divisible by no more than 2."""


class _Room:
    """Buffers for the numbers of so many bytes: fresh memory for each part would cost more than the work."""

    def __init__(self, count: int) -> None:
        self.codes = np.empty(count, np.int64)
        self.numbers = np.empty(count, np.uint64)
        self.powers, self.inverse = _powers(count)


def word_hashes(texts: pa.Array) -> tuple[Hashes, Offsets]:
    """Return the hash of each word.

    :param texts: strings; null counts as empty.
    :return: the hashes of all words one after the other, and where each text's begin, ``(texts + 1,)``.
    """
    data, ends = _spelt(texts)
    hashes = np.empty(len(data) // 2 + len(texts), np.uint64)
    counts: list[Offsets] = []
    room = _Room(2 * _BYTES_EACH)
    first = begin = found = 0
    while begin < len(data):
        end = _end_of_word(data, ends, begin + _BYTES_EACH)
        last = int(np.searchsorted(ends, end, "right"))
        # Of the texts that begin in this part, or with its end.
        places = ends[first:last] - begin
        if end - begin > len(room.codes):
            room = _Room(1 << (end - begin).bit_length())
        part, starts = _hashed(data[begin:end], places[(places > 0) & (places < end - begin)], room)
        hashes[found : found + len(part)] = part
        counts.append(found + np.searchsorted(starts, places))
        found += len(part)
        first, begin = last, end
    counts.append(np.full(len(ends) - first, found))
    return hashes[:found], np.concatenate(counts)


def _end_of_word(data: Bytes, ends: Offsets, place: int) -> int:
    """Return the first place, from one on, at which no word goes on."""
    if place >= len(data):
        return len(data)
    text_end = int(ends[np.searchsorted(ends, place)])
    step = 64
    while place < text_end:
        other = np.flatnonzero(~_IS_WORD[data[place : min(place + step, text_end)]])
        if len(other):
            return place + int(other[0])
        place, step = min(place + step, text_end), 2 * step
    return place


def _hashed(data: Bytes, cuts: Offsets, room: _Room) -> tuple[Hashes, Offsets]:
    """Return the hashes of the words in bytes, and where they begin.

    :param data: the bytes.
    :param cuts: where texts begin, which end a word.
    :param room: buffers.
    :return: hashes and places, ``(words,)``.
    """
    codes, numbers = room.codes[: len(data)], room.numbers[: len(data)]
    codes[:] = data
    _NUMBER.take(codes, out=numbers, mode="clip")
    is_word = numbers != 0
    begins = is_word.copy()
    begins[1:] &= ~is_word[:-1]
    begins[cuts] = is_word[cuts]
    starts = np.flatnonzero(begins)
    numbers *= room.powers[: len(data)]
    hashes = np.add.reduceat(numbers, starts)
    hashes *= room.inverse.take(starts)
    hashes ^= hashes >> np.uint64(32)
    hashes *= np.uint64(0xD6E8FEB86659FD93)
    hashes ^= hashes >> np.uint64(32)
    return hashes, starts


@functools.lru_cache(maxsize=1)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Return the powers of the base, and of its inverse, modulo 2**64."""
    found = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        powers = np.full(count, base, np.uint64)
        powers[0] = 1
        found.append(np.cumprod(powers))
    return found[0], found[1]


def _spelt(texts: pa.Array) -> tuple[Bytes, Offsets]:
    """Return all texts' bytes, and where each text begins and the last one ends.

    What stands between words is ASCII there, and beyond ASCII all is in lower case.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pc.fill_null(texts.cast(pa.large_string()), "")
    other = pc.invert(pc.string_is_ascii(texts))
    if pc.any(other).as_py():
        texts = pc.replace_with_mask(texts, other, plain(texts.filter(other)))
    _, places, data = texts.buffers()
    ends = np.frombuffer(places, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
    return held, ends - ends[0]
