"""Texts beyond ASCII in the spelling that words are hashed by: lower case, NFKC, ASCII between the words.

Characters are told apart by regular expressions, each character once, and are then looked up in a table:
to compile classes of Unicode costs Arrow 5 ms a call, as much as to go through hundreds of texts with them.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

Points = npt.NDArray[np.uint32]
"""Code points of Unicode."""
Places = npt.NDArray[np.int64]

_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}\p{So}\x00-\x7f]"
_IGNORED = (
    r"[\x{64b}-\x{65f}\x{670}\x{6d6}-\x{6ed}\x{640}"  # points of Arabic, and the stroke that lengthens words
    r"\x{591}-\x{5bd}\x{5bf}\x{5c1}\x{5c2}\x{5c4}\x{5c5}\x{5c7}"  # points of Hebrew
    r"\x{ad}\x{200d}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}\x{fe00}-\x{fe0f}\x{feff}]"  # invisible
)
_ODD = (
    r"[^\x00-\x7f\p{P}\p{Z}\x{c0}-\x{131}\x{134}-\x{13e}\x{141}-\x{148}\x{14a}-\x{17e}\x{391}-\x{3a9}\x{3b1}-\x{3c9}"
    r"\x{400}-\x{45f}\x{5d0}-\x{5ea}\x{621}-\x{63a}\x{641}-\x{64a}\x{ac00}-\x{d7a3}"
    r"\x{3041}-\x{3096}\x{30a1}-\x{30fa}\x{4e00}-\x{9fff}]"
)
"""What may not be in the form NFKC, as far as texts are full of what is."""
_WORDS_OF_ONE_CHARACTER = (
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Yi}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{So}]"
)
_BETWEEN, _DROPPED, _STRANGE, _ALONE, _MARK = (np.uint8(1 << bit) for bit in range(5))
_KINDS = {
    _BETWEEN: _BETWEEN_WORDS,
    _DROPPED: _IGNORED,
    _STRANGE: _ODD,
    _ALONE: _WORDS_OF_ONE_CHARACTER,
    _MARK: r"\p{M}",
}
_SPACE = 0x20
_POINTS, _PAGE = 0x110000, 1 << 12
"""Code points, and how many of them are looked at together."""
_BYTES_EACH = 1 << 18
"""Bytes of texts that are spelt together: a code point takes more than ten times what a byte of text does."""


class _Characters:
    """What characters are and their lower case, found out page by page when one is first met."""

    def __init__(self) -> None:
        self.kinds = np.zeros(_POINTS, np.uint8)
        self.lower = np.arange(_POINTS, dtype=np.uint32)
        self._known = np.zeros(_POINTS // _PAGE, bool)
        self._lock = threading.Lock()

    def learn(self, points: Points) -> None:
        """Find out what characters are."""
        pages = np.flatnonzero(np.bincount(points // _PAGE, minlength=len(self._known)))
        if self._known[pages].all():
            return
        with self._lock:  # workers of the embedded engine are threads
            for page in pages[~self._known[pages]].tolist():
                self._read(np.arange(page * _PAGE, (page + 1) * _PAGE, dtype=np.uint32))
                self._known[page] = True

    def _read(self, points: Points) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        points = points[(points < 0xD800) | (points > 0xDFFF)]  # halves of pairs are in no text
        if not len(points):
            return
        texts = pa.array(list(_decoded(points)), pa.large_string())
        kinds = np.zeros(len(points), np.uint8)
        for kind, pattern in _KINDS.items():
            found = pc.match_substring_regex(texts, pattern)
            kinds |= np.where(found.to_numpy(zero_copy_only=False), kind, np.uint8(0))
        self.kinds[points] = kinds
        self.lower[points] = _points("".join(pc.utf8_lower(texts).to_pylist()))


_CHARACTERS = _Characters()


def plain(texts: pa.Array) -> pa.Array:
    """Return texts in lower case and in the form NFKC, without what is not to be seen.

    What stands between words is ASCII, and so is what stands around words of one character.

    :param texts: strings without nulls.
    :return: strings whose words are runs of ASCII's letters and digits and of what is beyond ASCII.
    """
    import pyarrow as pa

    return pa.concat_arrays([_spelt(part) for part in _parts(texts)])


def _parts(texts: pa.Array) -> Iterator[pa.Array]:
    import pyarrow.compute as pc

    ends = np.cumsum(np.asarray(pc.binary_length(texts), np.int64))
    first = 0
    while first < len(texts):
        begin = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, begin + _BYTES_EACH, "right")))
        yield texts.slice(first, last - first)
        first = last


def _spelt(texts: pa.Array) -> pa.Array:
    import pyarrow as pa

    strings: list[str] = texts.to_pylist()
    points, starts = _points("".join(strings)), _starts(strings)
    _CHARACTERS.learn(points)
    strange = np.flatnonzero(_CHARACTERS.kinds[points] & _STRANGE)
    if len(strange):
        # Arrow's utf8_normalize (25.0) takes letters apart and does not compose them again.
        for place in np.unique(np.searchsorted(starts, strange, "right") - 1).tolist():
            strings[place] = unicodedata.normalize("NFKC", strings[place])
        points, starts = _points("".join(strings)), _starts(strings)
        _CHARACTERS.learn(points)
    points = _CHARACTERS.lower[points]
    _CHARACTERS.learn(points)
    kinds = _CHARACTERS.kinds[points]
    dropped = np.flatnonzero(kinds & _DROPPED)
    if len(dropped):
        points, kinds = np.delete(points, dropped), np.delete(kinds, dropped)
        starts -= np.searchsorted(dropped, starts)
    between = kinds & _BETWEEN != 0
    points[between], kinds[between] = _SPACE, 0
    if (kinds & _ALONE).any():
        cuts = _around_words_of_one_character(kinds, starts)
        points, starts = np.insert(points, cuts, _SPACE), starts + np.searchsorted(cuts, starts)
    widths = (1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(widths)])[starts]
    data = _decoded(points).encode()
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(data))


def _around_words_of_one_character(kinds: npt.NDArray[np.uint8], starts: Places) -> Places:
    """Return the places before which a space stands: such a word, with its marks, and what comes after it."""
    begins = kinds & _MARK == 0
    begins[starts[starts < len(begins)]] = True
    # A character and the marks after it; marks that are letters of their script may be first of a text.
    run = np.cumsum(begins)
    heads = np.flatnonzero(kinds & _ALONE)
    heads = heads[np.append(True, run[heads[1:]] != run[heads[:-1]])]
    after = np.append(np.flatnonzero(begins), len(begins))[run[heads]]
    return np.unique(np.append(heads, after[after < len(begins)]))


def _starts(strings: Sequence[str]) -> Places:
    """Return where each string begins, and the last one ends."""
    return np.concatenate([[0], np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)))])


def _points(text: str) -> Points:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def _decoded(points: Points) -> str:
    return points.astype("<u4", copy=False).tobytes().decode("utf-32-le")
