"""Measures of texts. A share of nothing (the capitals of a text without letters) is unknown, not 0.

ASCII is counted by byte in Arrow's own buffer; only rows with other characters become Python strings.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.signals.measures import MeasureOptions, measure

Counts = npt.NDArray[np.int64]
Test = Callable[[str], bool]

_URL = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_ROWS_AT_ONCE = 4096
"""Rows whose byte counts are held together: 8 MB."""


def text_bytes(texts: pa.Array) -> tuple[Counts, npt.NDArray[np.uint8]]:
    """Return the bytes of texts as Arrow holds them.

    :param texts: large strings.
    :return: where each text begins and the last one ends, ``(rows + 1,)``; the bytes of the whole column.
    """
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return bounds, np.frombuffer(data if data is not None else b"", np.uint8)


def _count(texts: pa.Array, test: Test) -> Counts:
    """Count the characters of each text that pass a test; 0 for null."""
    table = np.array([code < 128 and test(chr(code)) for code in range(256)])
    bounds, data = text_bytes(texts)
    first = bounds[0] if len(bounds) else 0
    passed = np.concatenate([[0], np.cumsum(table[data[first : bounds[-1]]], dtype=np.int64)])
    counts: Counts = passed[bounds[1:] - first] - passed[bounds[:-1] - first]
    ascii_only = pc.fill_null(pc.string_is_ascii(texts), True).to_numpy(zero_copy_only=False)
    for row in np.flatnonzero(~ascii_only):
        counts[row] = sum(map(test, texts[row].as_py()))
    return counts


def _share(part: Any, whole: Any, texts: pa.Array) -> pa.Array:
    empty = whole == 0
    missing = texts.is_null().to_numpy(zero_copy_only=False) | empty
    return pa.array(part / np.where(empty, 1, whole), pa.float64(), mask=missing)


def _is_shown(letter: str) -> bool:
    return not letter.isspace()


def _is_cased(letter: str) -> bool:
    return letter.isupper() or letter.islower()


@measure("length", result="integer")
def length(texts: pa.Array, _options: MeasureOptions) -> pa.Array:
    """Count the characters."""
    return pc.cast(pc.utf8_length(texts), pa.int64())


@measure("words", result="integer")
def words(texts: pa.Array, _options: MeasureOptions) -> pa.Array:
    """Count the runs of characters that are no white space."""
    return pa.array([None if text is None else len(text.split()) for text in texts.to_pylist()], pa.int64())


@measure("lines", result="integer")
def lines(texts: pa.Array, _options: MeasureOptions) -> pa.Array:
    """Count the lines, blank ones included; a line break at the end begins none."""
    return pa.array(
        [None if text is None else len(text.splitlines()) for text in texts.to_pylist()], pa.int64()
    )


@measure("capitals", result="float")
def capitals(texts: pa.Array, _options: MeasureOptions) -> pa.Array:
    """Share of upper-case letters among the letters that have a case."""
    return _share(_count(texts, str.isupper), _count(texts, _is_cased), texts)


@measure("digits", result="float")
def digits(texts: pa.Array, _options: MeasureOptions) -> pa.Array:
    """Share of digits among the characters that are no white space."""
    return _share(_count(texts, str.isdigit), _count(texts, _is_shown), texts)


class CharactersOptions(MeasureOptions):
    """What is counted."""

    characters: str = string.punctuation
    """The characters to count."""


@measure("characters", result="float", options=CharactersOptions)
def characters(texts: pa.Array, options: CharactersOptions) -> pa.Array:
    """Share of some characters, by default ASCII's punctuation, among those that are no white space."""
    return _share(_count(texts, frozenset(options.characters).__contains__), _count(texts, _is_shown), texts)


@measure("urls", result="float")
def urls(texts: pa.Array, _options: MeasureOptions) -> pa.Array:
    """Share of characters that stand in URLs among the characters that are no white space."""
    inside = np.zeros(len(texts), np.int64)
    maybe = pc.fill_null(pc.match_substring_regex(texts, r"(?i)://|www\."), False)
    for row in np.flatnonzero(maybe.to_numpy(zero_copy_only=False)):
        inside[row] = sum(len(found[0]) for found in _URL.finditer(texts[row].as_py()))
    return _share(inside, _count(texts, _is_shown), texts)


@measure("repeated_lines", result="float")
def repeated_lines(texts: pa.Array, _options: MeasureOptions) -> pa.Array:
    """Share of lines that stand in the text before, among the lines that are not blank."""
    return pa.array([None if text is None else _repeated(text) for text in texts.to_pylist()], pa.float64())


def _repeated(text: str) -> float | None:
    shown = [line for line in map(str.strip, text.splitlines()) if line]
    return 1 - len(set(shown)) / len(shown) if shown else None


@measure("entropy", result="float")
def entropy(texts: pa.Array, _options: MeasureOptions) -> pa.Array:
    """Shannon entropy of the bytes of the text in UTF-8, in bits per byte: from 0 (one byte) to 8."""
    bounds, data = text_bytes(texts)
    found = np.zeros(len(texts))
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        part = bounds[start : start + _ROWS_AT_ONCE + 1]
        found[start : start + len(part) - 1] = _entropy(np.diff(part), data[part[0] : part[-1]])
    empty = np.diff(bounds) == 0
    return pa.array(found, mask=texts.is_null().to_numpy(zero_copy_only=False) | empty)


def _entropy(sizes: Counts, data: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    place = np.repeat(np.arange(len(sizes)) * 256, sizes) + data
    counts = np.bincount(place, minlength=len(sizes) * 256).reshape(-1, 256)  # (rows, bytes)
    p = counts / np.maximum(sizes, 1)[:, None]
    # The sum of a row's 256 terms in one order, whatever rows stand beside it.
    terms = np.where(counts > 0, p * np.log2(np.where(counts > 0, p, 1)), 0.0)
    result: npt.NDArray[np.float64] = np.abs(np.add.reduce(terms, axis=1))
    return result
