"""Regular expressions and phrases over a text column: one automaton for all of them.

The automaton is Vectorscan's (the maintained fork of Hyperscan). It reads each text once, in time linear in
the text whatever the patterns are, out of Arrow's own buffer: no Python string is made of a text.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.errors import ExpressionError, Problem, TableError
from modelmill.signals.automaton import Expression, compiled
from modelmill.signals.phrase_search import AS_IT_IS, PhraseFinder, Phrases, Span, folded, phrase_pattern

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_ENDS = 10_000
"""Ends of a match that are looked at for the longest one."""


@dataclass(frozen=True)
class Regex:
    r"""A regular expression that is found anywhere in a text.

    The syntax is what RE2 and Vectorscan both read: no look-around, no back references. ``\w``, ``\d`` and
    ``\b`` know ASCII, and ``$`` also stands before a last line break: what Python's ``re`` calls ``ASCII``.
    """

    pattern: str


class PatternSet:
    """Patterns of one text column, compiled into one automaton. Several threads may use it.

    :param patterns: by name; at least one.
    :raises ExpressionError: if a pattern is not valid; all problems of all patterns are listed.
    """

    def __init__(self, patterns: Mapping[str, Regex | Phrases]) -> None:
        self.patterns = dict(patterns)
        self._expressions = list(_expressions(self.patterns))
        self._database = compiled(self._expressions)
        self._form = np.array(
            [one.form if isinstance(one, Phrases) else AS_IT_IS for one in self.patterns.values()]
        )
        self._local = threading.local()
        self._tracers: dict[str, Any] = {}
        self._finders: dict[str, PhraseFinder] = {}

    def hits(self, texts: pa.Array) -> dict[str, pa.BooleanArray]:
        """Look for every pattern in every text.

        :param texts: strings of any Arrow type.
        :return: for each pattern, by name, whether it is found; null where the text is.
        :raises TableError: if a text is not UTF-8.
        """
        import pyarrow as pa

        rows, numbers = self._found(texts)
        known = np.packbits(texts.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
        valid = pa.py_buffer(known) if texts.null_count else None
        # Bit by bit into all columns at once: there may be a thousand patterns, and few of them are found.
        packed = np.zeros((len(self.patterns), -(-len(texts) // 8)), np.uint8)
        np.bitwise_or.at(packed, (numbers, rows >> 3), (1 << (rows & 7)).astype(np.uint8))
        return {
            name: pa.Array.from_buffers(pa.bool_(), len(texts), [valid, pa.py_buffer(bits)])
            for name, bits in zip(self.patterns, packed, strict=True)
        }

    def matrix(self, texts: pa.Array) -> npt.NDArray[np.bool_]:
        """Look for every pattern in every text.

        :param texts: strings of any Arrow type.
        :return: whether it is found, ``(patterns, rows)``, in the order of the patterns; false for null.
        :raises TableError: if a text is not UTF-8.
        """
        rows, numbers = self._found(texts)
        matrix = np.zeros((len(self.patterns), len(texts)), bool)
        matrix[numbers, rows] = True
        return matrix

    def _found(self, texts: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the hits as two arrays, number of the text and number of the pattern; some stand twice."""
        import pyarrow as pa

        texts = _checked(texts)
        ascii_only = _ascii(texts)
        rows, numbers = self._scan(_slices(texts))
        if ascii_only.all():  # to ASCII, all forms are one
            return rows, numbers
        other = np.flatnonzero(~ascii_only)
        kept = ascii_only[rows] | (self._form[numbers] == AS_IT_IS)
        parts = [(rows[kept], numbers[kept])]
        for form in np.unique(self._form[self._form != AS_IT_IS]):
            values = texts.take(pa.array(other)).to_pylist()
            more, found = self._scan(folded(text, form) for text in values)
            kept = self._form[found] == form
            parts.append((other[more[kept]], found[kept]))
        rows, numbers = (np.concatenate(part) for part in zip(*parts, strict=True))
        return rows, numbers

    def evidence(self, name: str, text: str) -> Span | None:
        """Return where a pattern is found in a text. Slower than :meth:`hits`: for rows that are explained.

        :param name: the pattern.
        :param text: a text.
        :return: the first phrase; or, for a regular expression, the longest match from the place where the
            match that ends first begins. None if there is no hit.
        """
        pattern = self.patterns[name]
        if isinstance(pattern, Phrases):
            return next(self._finder(name, pattern).spans(text), None)
        raw = text.encode()
        found: list[tuple[int, int]] = []

        def hit(_number: int, start: int, end: int, _flags: int, _context: Any) -> bool:
            if found and (start != found[0][0] or len(found) == _MOST_ENDS):
                return True
            found.append((start, end))
            return False

        _trace(self._tracer(name, pattern), raw, hit)
        if not found:
            return None
        return Span(*(len(raw[:place].decode(errors="ignore")) for place in (found[0][0], found[-1][1])))

    def counts(self, name: str, texts: pa.Array, found: pa.BooleanArray) -> pa.Array:
        """Count the hits of one pattern.

        :param name: the pattern.
        :param texts: what :meth:`hits` was given.
        :param found: what it gave for the pattern.
        :return: integers: matches of a regular expression that do not overlap, as RE2 finds them, or places
            where a phrase begins. Null where the text is.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        pattern = self.patterns[name]
        rows = pc.indices_nonzero(found.fill_null(False))
        hit = _checked(texts).take(rows)
        if isinstance(pattern, Regex):
            each = match_counts(hit, pattern.pattern).to_numpy()
        else:
            spans = self._finder(name, pattern).spans
            each = np.array([sum(1 for _ in spans(one)) for one in hit.to_pylist()], np.int64)
        result = np.zeros(len(found), np.int64)
        # RE2, which counts, differs in rare places, such as a last line break: a hit counts at least once.
        result[rows.to_numpy()] = np.maximum(each, 1)
        return pa.array(result, mask=found.is_null().to_numpy(zero_copy_only=False))

    def _finder(self, name: str, pattern: Phrases) -> PhraseFinder:
        if name not in self._finders:
            self._finders[name] = PhraseFinder(pattern)
        return self._finders[name]

    def _tracer(self, name: str, pattern: Regex) -> Any:
        """Return an automaton that knows where a match begins: slower, so made when it is needed."""
        import hyperscan

        if name not in self._tracers:
            traced = [Expression(0, name, pattern.pattern.encode(), _regex_flags(single=False))]
            try:
                self._tracers[name] = compiled(traced)
            except ExpressionError:  # too large: the match is shown from the beginning of the text
                plain = hyperscan.HS_FLAG_UTF8 | hyperscan.HS_FLAG_ALLOWEMPTY
                self._tracers[name] = compiled([Expression(0, name, traced[0].pattern, plain)])
        return self._tracers[name]

    def _scan(self, texts: Iterable[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the hits as two arrays: number of the text, number of the pattern."""
        found: list[int] = []
        counts: list[int] = []
        note = found.append

        def hit(number: int, _start: int, _end: int, _flags: int, _context: Any) -> None:
            note(number)

        scan, scratch = self._database.scan, self._scratch()
        for text in texts:
            scan(text, hit, 0, None, scratch)
            counts.append(len(found))
        each = np.array(counts, np.int64) - np.array([0, *counts[:-1]], np.int64)[: len(counts)]
        return np.repeat(np.arange(len(each)), each), np.array(found, np.int64)

    def _scratch(self) -> Any:
        # A scan writes there without Python's lock: each thread needs its own.
        if not hasattr(self._local, "scratch"):
            self._local.scratch = self._database.scratch.clone()
        return self._local.scratch


def match_counts(texts: Any, pattern: str) -> Any:
    """Count the matches of a regular expression in texts, as RE2 finds them one after the other.

    Arrow's own count cuts the text off behind a match, so that what follows seems to begin there: ``^a``
    counts 2 in *aab*. Its replacement does not; so each match is made one byte longer.

    :param texts: an Arrow array or scalar.
    :param pattern: the regular expression.
    :return: integers; null where the text is.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    longer = pc.replace_substring_regex(texts, pattern, "\\0.")
    return pc.cast(pc.subtract(pc.binary_length(longer), pc.binary_length(texts)), pa.int64())


def _regex_flags(*, single: bool = True) -> int:
    import hyperscan

    how = hyperscan.HS_FLAG_SINGLEMATCH if single else hyperscan.HS_FLAG_SOM_LEFTMOST
    return int(hyperscan.HS_FLAG_UTF8 | hyperscan.HS_FLAG_ALLOWEMPTY | how)


def _expressions(patterns: Mapping[str, Regex | Phrases]) -> Iterable[Expression]:
    """Yield the expressions of the automaton: the phrases of one pattern share its number."""
    import hyperscan

    problems: list[Problem] = []
    texts: dict[str, str] = {}
    for number, (name, pattern) in enumerate(patterns.items()):
        if isinstance(pattern, Regex):
            texts[name] = pattern.pattern
            problems += _problems(name, pattern.pattern)
            yield Expression(number, name, pattern.pattern.encode(errors="replace"), _regex_flags())
            continue
        for place, phrase in enumerate(dict.fromkeys(pattern.phrases)):
            path = f"{name}[{place}]"
            texts[path] = phrase
            body = phrase_pattern(phrase, pattern)
            if body is None:
                message = f"a phrase has letters, digits or signs; got {phrase!r}; write at least one"
                problems.append(Problem(1, 1, path, message))
                continue
            case = hyperscan.HS_FLAG_CASELESS if pattern.ignore_case else 0
            yield Expression(number, path, body, int(hyperscan.HS_FLAG_SINGLEMATCH | case))
    if problems:
        raise ExpressionError(problems, texts=texts, what="patterns")


def _problems(name: str, pattern: str) -> list[Problem]:
    """Return what RE2 refuses in a pattern: such syntax may mean something else in Vectorscan."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        reason = str(error).removeprefix("Invalid regular expression: ")[:100]
        return [Problem(1, 1, name, f"a pattern must be a regular expression of RE2 ({reason})")]
    return []


def _trace(database: Any, raw: bytes, hit: Any) -> None:
    import hyperscan

    with contextlib.suppress(hyperscan.ScanTerminated):
        database.scan(raw, hit, 0, None, database.scratch.clone())


def _checked(texts: pa.Array) -> pa.Array:
    """Return the texts as Arrow's large strings, known to be UTF-8: the automaton relies on it."""
    import pyarrow as pa

    from modelmill.signals.values import stored

    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    texts = stored(texts, "text")
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid as error:
        raise TableError(
            f"a text column holds UTF-8 ({error})", remedy="decode the texts when they are loaded"
        ) from error
    return texts


def _slices(texts: pa.Array) -> Iterator[memoryview]:
    """Yield the bytes of each text, without copying them."""
    from modelmill.signals.text_measures import text_bytes

    bounds, data = text_bytes(texts)
    view, places = data.data, bounds.tolist()
    return (view[start:end] for start, end in itertools.pairwise(places))


def _ascii(texts: pa.Array) -> npt.NDArray[np.bool_]:
    import pyarrow.compute as pc

    found: npt.NDArray[np.bool_] = pc.fill_null(pc.string_is_ascii(texts), True).to_numpy(
        zero_copy_only=False
    )
    return found
