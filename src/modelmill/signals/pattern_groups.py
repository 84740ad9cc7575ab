"""Groups of patterns: all regular expressions and phrases that read one text column are one group."""

from __future__ import annotations

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from modelmill.errors import ExpressionError, SignalError
from modelmill.signals.groups import (
    EVIDENCE,
    Evaluation,
    Rows,
    SignalContext,
    SignalGroup,
    SignalInfo,
    SignalValues,
)
from modelmill.signals.kinds import ColumnName, Operand, Signal
from modelmill.signals.patterns import PatternSet, Regex
from modelmill.signals.phrase_search import Phrases
from modelmill.signals.values import Kind

_MOST_SHOWN = 500
"""Characters of a place in a text that are shown: a match may be a megabyte long."""


class PatternSignal(Signal):
    """Base of the signals that look for something in a text column."""

    column: ColumnName

    @property
    @abstractmethod
    def is_counted(self) -> bool:
        """Whether the signal is a number of hits."""

    @abstractmethod
    def sought(self) -> Regex | Phrases:
        """Return what is looked for."""


def pattern_operands(_name: str, signal: PatternSignal) -> tuple[Operand, ...]:
    """Return the column that a pattern reads."""
    return (Operand(signal.column, ("text",)),)


def pattern_result(_name: str, signal: PatternSignal, _schema: pa.Schema | None) -> Kind:
    """Return the kind of a pattern's values."""
    return "integer" if signal.is_counted else "boolean"


@functools.lru_cache(maxsize=16)
def _pattern_set(patterns: tuple[tuple[str, Regex | Phrases], ...]) -> PatternSet:
    """Compile patterns once for each process: an engine may run several partitions in one."""
    return PatternSet(dict(patterns))


class PatternGroup(SignalGroup):
    """All patterns on one text column; SignalError lists all of them that are not valid."""

    def __init__(self, column: str, signals: Mapping[str, PatternSignal]) -> None:
        infos = {
            name: SignalInfo(
                pattern_result(name, signal, None),
                hashlib.sha256(signal.model_dump_json(exclude={"description"}).encode()).hexdigest()[:16],
            )
            for name, signal in signals.items()
        }
        super().__init__(f"patterns on {column}", tier="explicit", signals=infos, columns=(column,))
        self.column = column
        self.counted = frozenset(name for name, signal in signals.items() if signal.is_counted)
        try:
            self.patterns = _pattern_set(tuple((name, signal.sought()) for name, signal in signals.items()))
        except ExpressionError as error:
            raise SignalError(str(error), remedy="fix the patterns") from error

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """See :meth:`SignalGroup.begin`."""
        return _PatternEvaluation(self, chunk.column(self.column))


class _PatternEvaluation(Evaluation):
    """One pass finds all patterns: what was not asked for is kept until it is."""

    def __init__(self, group: PatternGroup, texts: pa.Array) -> None:
        self._group = group
        self._texts = texts
        self._seen = np.zeros(len(texts), bool)
        self._number = {name: number for number, name in enumerate(group.patterns.patterns)}
        self._hits = np.zeros((len(self._number), len(texts)), bool)  # (patterns, rows)

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, SignalValues]:
        fresh = rows[~self._seen[rows]]
        if len(fresh) == len(self._texts):
            self._hits = self._group.patterns.matrix(self._texts)
        elif len(fresh):
            self._hits[:, fresh] = self._group.patterns.matrix(self._at(fresh))
        self._seen[fresh] = True
        texts = self._at(rows)
        known = np.packbits(texts.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
        valid = pa.py_buffer(known) if texts.null_count else None
        numbers = np.array([self._number[name] for name in names])
        # All at once, and bit by bit as Arrow has it: there may be a thousand patterns.
        hits = self._hits if len(names) == len(self._number) else self._hits[numbers]
        # An index of columns gives columns that lie together, and Arrow wants the bits of a pattern together.
        hits = hits if len(rows) == len(self._texts) else hits.take(rows, axis=1)
        answers = {}
        ordered = self._number if len(names) == len(self._number) else names
        for name, bits in zip(ordered, np.packbits(hits, axis=1, bitorder="little"), strict=True):
            found = pa.Array.from_buffers(pa.bool_(), len(rows), [valid, pa.py_buffer(bits)])
            if name in self._group.counted:
                found = self._group.patterns.counts(name, texts, found)
            answers[name] = SignalValues(found)
        return answers

    def evidence(self, names: Sequence[str], rows: Rows) -> dict[str, pa.Array]:
        texts = self._at(rows).to_pylist()
        found = {}
        for name in names:
            hits = self._hits[self._number[name], rows]
            places = [self._places(name, text) if hit else [] for hit, text in zip(hits, texts, strict=True)]
            found[name] = pa.array(places, EVIDENCE)
        return found

    def _places(self, name: str, text: str) -> list[dict[str, object]]:
        span = self._group.patterns.evidence(name, text)
        if span is None:
            return []
        shown = text[span.start : min(span.end, span.start + _MOST_SHOWN)]
        cut = "…" if span.end - span.start > _MOST_SHOWN else ""
        where = {"start": span.start, "end": span.end, "text": shown + cut}
        return [{"column": self._group.column, **where}]

    def _at(self, rows: Rows) -> pa.Array:
        return self._texts if len(rows) == len(self._texts) else self._texts.take(pa.array(rows))


def pattern_groups(signals: Mapping[str, PatternSignal], context: SignalContext) -> list[SignalGroup]:
    """Make a group of the patterns on each column.

    :param signals: the signals.
    :param context: not needed.
    :return: the groups, in the order of the columns' first use.
    :raises SignalError: if a pattern is not valid.
    """
    del context
    columns: Iterable[str] = dict.fromkeys(signal.column for signal in signals.values())
    return [
        PatternGroup(column, {name: one for name, one in signals.items() if one.column == column})
        for column in columns
    ]
