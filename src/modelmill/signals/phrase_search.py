"""Phrases in texts: the form in which both are compared, the expression for an automaton, and the places.

Text and phrase are compared in a normal form of Unicode; a text of ASCII is the same in every form.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

_WORD_BYTE = r"0-9A-Za-z_\x80-\xff"
_BLANK = r"[ \t\n\r\f\v]+"
_OTHER = re.compile(r"[^\w\x00-\x7f]")
"""Characters beyond ASCII that belong to no word, and marks."""
_TOKEN = re.compile(r"[\w\u0300-\u036f]+|\S")
_LETTER = re.compile(r"\S[\u0300-\u036f]*|\s+")
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
    words = folded(phrase, how.form).strip(b"\1").split()
    words = [word for word in words if word.strip(b"\1")]
    if not words:
        return None
    first, last = words[0][:1], words[-1][-1:]
    before = rf"(?:^|[^{_WORD_BYTE}])" if how.whole_words and _is_word(first) else ""
    after = rf"(?:[^{_WORD_BYTE}]|\z)" if how.whole_words and _is_word(last) else ""
    return (before + _BLANK.join("".join(map(_literal, word)) for word in words) + after).encode()


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


def phrase_spans(pattern: Phrases, text: str) -> Iterator[Span]:
    """Return the places where a phrase begins, the longest phrase at each: words are compared one by one."""
    split = _TOKEN if pattern.whole_words else _LETTER
    wanted: dict[bytes, list[list[bytes]]] = {}
    for phrase in pattern.phrases:
        words = _tokens(split, phrase, pattern.form)[0]
        wanted.setdefault(words[0], []).append(words)
    tokens, places = _tokens(split, text, pattern.form)
    for place, token in enumerate(tokens):
        sizes = [len(one) for one in wanted.get(token, ()) if tokens[place : place + len(one)] == one]
        if sizes:
            yield Span(places[place][0], places[place + max(sizes) - 1][1])


def _tokens(split: re.Pattern[str], text: str, form: int) -> tuple[list[bytes], list[tuple[int, int]]]:
    places = [(found.start(), found.end()) for found in split.finditer(text)]
    parts = (text[start:end] for start, end in places)
    return [b" " if part.isspace() else folded(part, form).strip(b"\1") for part in parts], places
