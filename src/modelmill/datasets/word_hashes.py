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
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


_BYTES_EACH = 1 << 16
"""Bytes that are processed together: their numbers fit into a processor's cache."""
_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}\p{So}\x00-\x7f]+"
"""For texts beyond ASCII; ASCII is classified by its bytes."""
_IGNORED = (
    r"[\x{64b}-\x{65f}\x{670}\x{6d6}-\x{6ed}\x{640}"  # points of Arabic, and the stroke that lengthens words
    r"\x{591}-\x{5bd}\x{5bf}\x{5c1}\x{5c2}\x{5c4}\x{5c5}\x{5c7}"  # points of Hebrew
    r"\x{ad}\x{200d}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}\x{fe00}-\x{fe0f}\x{feff}]+"  # invisible
)
_COMMON = (
    r"\x00-\x7f\p{P}\p{Z}\x{c0}-\x{131}\x{134}-\x{13e}\x{141}-\x{148}\x{14a}-\x{17e}\x{391}-\x{3a9}\x{3b1}-\x{3c9}"
    r"\x{400}-\x{45f}\x{5d0}-\x{5ea}\x{621}-\x{63a}\x{641}-\x{64a}\x{ac00}-\x{d7a3}"
)
"""Letters of scripts with spaces, which are in the form NFKC already, and what stands between words."""
_UNCOMMON = f"[^{_COMMON}]"
_ODD = rf"[^{_COMMON}\x{{3041}}-\x{{3096}}\x{{30a1}}-\x{{30fa}}\x{{4e00}}-\x{{9fff}}]"
"""What may not be in the form NFKC."""
_WORDS_OF_ONE_CHARACTER = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{So}]"
)
_MARK = r"\p{M}"


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
        texts = pc.replace_with_mask(texts, other, _plain(texts.filter(other)))
    _, places, data = texts.buffers()
    ends = np.frombuffer(places, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(data or b"", np.uint8)[ends[0] : ends[-1]]
    return held, ends - ends[0]


def _plain(texts: Any) -> Any:
    import pyarrow.compute as pc

    uncommon = pc.match_substring_regex(texts, _UNCOMMON)
    any_uncommon = pc.any(uncommon).as_py()
    if any_uncommon:
        texts = pc.replace_with_mask(texts, uncommon, _composed(texts.filter(uncommon)))
    plain = pc.replace_substring_regex(pc.utf8_lower(texts), _BETWEEN_WORDS, " ")
    if any_uncommon:
        found = plain.filter(uncommon)
        # Looking for marks makes the replacement a tenth slower, and few texts have some.
        has_marks = pc.any(pc.match_substring_regex(found, _MARK)).as_py()
        marks = f"{_MARK}*" if has_marks else ""
        found = pc.replace_substring_regex(found, _WORDS_OF_ONE_CHARACTER + marks, r" \0 ")
        plain = pc.replace_with_mask(plain, uncommon, found)
    return plain


def _composed(texts: Any) -> Any:
    """Return texts in the form NFKC, without what is not to be seen."""
    import pyarrow as pa
    import pyarrow.compute as pc

    odd = pc.match_substring_regex(texts, _ODD)
    if not pc.any(odd).as_py():
        return texts
    # Arrow's utf8_normalize (25.0) takes letters apart and does not compose them again.
    normal = [unicodedata.normalize("NFKC", text) for text in texts.filter(odd).to_pylist()]
    normal = pc.replace_substring_regex(pa.array(normal, texts.type), _IGNORED, "")
    return pc.replace_with_mask(texts, odd, normal)
