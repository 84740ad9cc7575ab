"""Phrases in texts: the form in which both are compared, the expression for an automaton, and the places.

Text and phrase are compared in a normal form of Unicode; a text of ASCII is the same in every form.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

_WORD_BYTE = r"0-9A-Za-z_\x80-\xff"
_BLANK = r"[ \t\n\r\f\v]+"
_OTHER = re.compile(r"[^\w\x00-\x7f]")
"""Characters beyond ASCII that belong to no word, and marks."""
_WORD_RUN = re.compile(f"[{_WORD_BYTE}]+".encode())
_BLANKS = re.compile(_BLANK.encode())
_FEW = 64
"""Words that one expression looks for; more are looked up, word by word."""
_MOST_BEGIN = 4
"""Bytes of a phrase that are looked up where it may begin within a word."""
AS_IT_IS, _COMPOSED, _FOLDED = range(3)
"""Forms of a text: regular expressions read it as it is, phrases in NFKC, or case-folded as well."""


@dataclass(frozen=True)
class Phrases:
    """Phrases, any of which is found.

    Text and phrase are compared as Unicode's NFKC makes them, so that both spellings of *é* are one; accents
    count: *é* and *e* differ. White space in a phrase stands for any white space.
    """

    phrases: tuple[str, ...]
    ignore_case: bool = True
    """Whether both are case-folded: *Straße* is *STRASSE*."""
    whole_words: bool = True
    """Whether, where a phrase begins or ends with a letter, a digit or ``_``, the text has none beside it."""

    @property
    def form(self) -> int:
        """Form of the texts in which they are looked for, see :func:`folded`."""
        return _FOLDED if self.ignore_case else _COMPOSED


@dataclass(frozen=True)
class Span:
    """Where a text shows a hit, in characters."""

    start: int
    end: int
    """The character after the last one."""


def phrase_pattern(phrase: str, how: Phrases) -> bytes | None:
    """Return the regular expression over the bytes of folded texts that stands for a phrase."""
    words = _words(phrase, how.form)
    if not words:
        return None
    first, last = words[0][:1], words[-1][-1:]
    before = rf"(?:^|[^{_WORD_BYTE}])" if how.whole_words and _is_word(first) else ""
    after = rf"(?:[^{_WORD_BYTE}]|\z)" if how.whole_words and _is_word(last) else ""
    return (before + _BLANK.join("".join(map(_literal, word)) for word in words) + after).encode()


def _words(phrase: str, form: int) -> tuple[bytes, ...]:
    words = folded(phrase, form).strip(b"\1").split()
    return tuple(word for word in words if word.strip(b"\1"))


def _is_word(byte: bytes) -> bool:
    return byte.isalnum() or byte == b"_" or byte >= b"\x80"


def _literal(byte: int) -> str:
    letter = chr(byte)
    return letter if letter.isascii() and letter.isalnum() else f"\\x{byte:02x}"


def folded(text: str, form: int) -> bytes:
    """Return a text in a form in which phrases are looked for.

    What belongs to no word is put between bytes that belong to no word, so that every other byte beyond
    ASCII belongs to a word.
    """
    normal = unicodedata.normalize("NFKC", text)
    if form == _FOLDED:
        normal = unicodedata.normalize("NFKC", normal.casefold())
    return _OTHER.sub(_marked, normal).encode(errors="replace")


def _marked(found: re.Match[str]) -> str:
    letter = found[0]
    kind = unicodedata.category(letter)
    if letter.isspace():
        return " "
    if kind == "Cf":  # soft hyphens and joiners are not seen
        return ""
    return letter if kind.startswith("M") else f"\1{letter}\1"


class PhraseFinder:
    """Finds the places of phrases: those where the expressions of :func:`phrase_pattern` match."""

    def __init__(self, how: Phrases) -> None:
        self._how = how
        self._phrases: dict[bytes, list[tuple[bytes, ...]]] = {}
        """Phrases as words, by what stands at their beginning, see :meth:`_begin`."""
        for phrase in dict.fromkeys(how.phrases):
            if words := _words(phrase, how.form):
                self._phrases.setdefault(self._begin(words[0]), []).append(words)
        self._sizes = sorted({len(begin) for begin in self._phrases})
        self._places = re.compile(self._first_bytes())

    def _first_bytes(self) -> bytes:
        """Return an expression of the places where a phrase may begin."""
        begins = sorted(self._phrases, key=lambda begin: (-len(begin), begin))
        whole = self._how.whole_words
        if whole and len(begins) <= _FEW and all(_WORD_RUN.fullmatch(begin) for begin in begins):
            word = f"[{_WORD_BYTE}]".encode()
            return b"(?<!%b)(?:%b)(?!%b)" % (word, b"|".join(map(re.escape, begins)), word)
        firsts = b"".join({re.escape(begin[:1]) for begin in begins})
        return (_WORD_RUN.pattern + b"|" if whole else b"") + b"[" + firsts + b"]"

    def spans(self, text: str) -> Iterator[Span]:
        """Return the places where a phrase begins, the longest phrase at each."""
        places = FoldedText(text, self._how.form)
        for found in self._places.finditer(places.folded):
            ends = self._ends(places.folded, found.start())
            if ends:
                yield places.span(found.start(), max(ends))

    def _begin(self, word: bytes) -> bytes:
        """Return what a place in a text must begin with so that a phrase may begin there.

        A whole word if a phrase is of whole words; else a few bytes of its first word.
        """
        whole = _WORD_RUN.match(word) if self._how.whole_words else None
        return whole[0] if whole else word[:_MOST_BEGIN]

    def _ends(self, folded: bytes, start: int) -> list[int]:
        word = _WORD_RUN.match(folded, start) if self._how.whole_words else None
        begins = (
            [word[0]]
            if word
            else [folded[start : start + size] for size in self._sizes if size <= _MOST_BEGIN]
        )
        found = (self._end(folded, start, one) for begin in begins for one in self._phrases.get(begin, ()))
        return [end for end in found if end is not None]

    def _end(self, folded: bytes, place: int, words: tuple[bytes, ...]) -> int | None:
        for number, word in enumerate(words):
            if number:
                blank = _BLANKS.match(folded, place)
                if blank is None:
                    return None
                place = blank.end()
            if not folded.startswith(word, place):
                return None
            place += len(word)
        if self._how.whole_words and _WORD_RUN.match(words[-1][-1:]) and _WORD_RUN.match(folded, place):
            return None
        return place


class FoldedText:
    """A text in a form, of which each byte knows the characters that it is made of.

    :param text: the text.
    :param form: see :func:`folded`.
    """

    def __init__(self, text: str, form: int) -> None:
        if text.isascii():
            self.folded = (text.lower() if form == _FOLDED else text).encode()
            self._ends: Any = None
            return
        # Normal forms join a character with those after it that attach to it, and no others.
        attached = "".join(re.escape(one) for one in set(text) if _attaches(one))
        parts = re.findall(f"(?s:.[{attached}]*)", text) if attached else list(text)
        known = {part: folded(part, form) for part in set(parts)}
        self.folded = b"".join(known[part] for part in parts)
        self._ends = np.cumsum([len(known[part]) for part in parts])
        self._characters = np.cumsum([0, *map(len, parts)])

    def span(self, start: int, end: int) -> Span:
        """Return the characters that some bytes of the folded text are made of."""
        if self._ends is None:
            return Span(start, end)
        first, last = np.searchsorted(self._ends, [start, end - 1], side="right")
        return Span(int(self._characters[first]), int(self._characters[last + 1]))


def _attaches(character: str) -> bool:
    """Return whether a normal form may join a character with the one before: marks, and parts of Hangul."""
    first = unicodedata.normalize("NFKD", character)[0]
    return unicodedata.category(first).startswith("M") or "\u1160" <= first <= "\u11ff"
