"""Programs: the flat list of steps over Arrow batches that expressions compile to.

Expressions that are compiled together share their steps: each column is read once, and a part that several
expressions have in common is computed once. The list is flat, so evaluating it never recurses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from modelmill.signals.values import STORED, Kind, stored


@dataclass(frozen=True)
class Step:
    """One operation. Other steps refer to its result by the step's number."""

    compute: Callable[..., Any]
    """Takes the operands; the batch if there are none."""
    operands: tuple[int, ...]
    """Numbers of earlier steps."""
    kind: Kind
    """Kind of the result."""
    kernel: Callable[..., Any] | None = None
    """The function of :mod:`.kernels` that ``compute`` calls; None for a column or a constant."""
    column: str | None = None
    """The column, if the step reads one."""
    members: pa.Array | None = None
    """The constants of an IN list, without NULL."""


@dataclass
class Steps:
    """A growing list of steps; equal steps are added once."""

    steps: list[Step] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)
    """Columns that are read, in the order of their first use."""
    _known: dict[Hashable, int] = field(default_factory=dict)

    def add(self, key: Hashable, step: Step) -> int:
        """Add a step, or find the equal one that is in the list already.

        :param key: identifies what the step computes, operands apart.
        :param step: the step.
        :return: the step's number.
        """
        known = self._known.setdefault((key, step.operands), len(self.steps))
        if known == len(self.steps):
            self.steps.append(step)
        return known

    def column(self, name: str, kind: Kind) -> int:
        """Add the step that reads a column, and return its number."""
        self.columns[name] = None
        return self.add(
            ("column", name), Step(lambda batch: stored(batch.column(name), kind), (), kind, column=name)
        )

    def constant(self, value: Any, kind: Kind) -> int:
        """Add a constant (None for NULL), and return the number of its step."""
        scalar = pa.scalar(value, STORED[kind])
        # A dictionary takes 0 and -0 for the same key, and 1, 1.0 and True too: hence repr.
        return self.add(("constant", kind, repr(value)), Step(lambda _batch: scalar, (), kind))

    def columns_of(self, root: int) -> tuple[str, ...]:
        """Return the columns that a step depends on, in alphabetical order."""
        return tuple(
            sorted(name for number in reached(self.steps, [root]) if (name := self.steps[number].column))
        )


def reached(steps: Sequence[Step], roots: Iterable[int]) -> list[int]:
    """Return some steps and all steps that they depend on.

    :param steps: all steps.
    :param roots: numbers of the steps to start from.
    :return: numbers, ascending.
    """
    found = set(roots)
    waiting = list(found)
    while waiting:
        new = [number for number in steps[waiting.pop()].operands if number not in found]
        found.update(new)
        waiting += new
    return sorted(found)


@dataclass(frozen=True)
class Result:
    """One of a program's expressions."""

    text: str
    kind: Kind
    columns: tuple[str, ...]
    """The columns that it reads."""
    step: int
    """Number of the step that gives its values."""


@dataclass(frozen=True)
class Program:
    """Expressions that were checked against a schema, ready to be evaluated."""

    steps: tuple[Step, ...]
    results: dict[str, Result]
    """By the expression's name."""
    columns: tuple[str, ...]
    """Columns that any of them reads."""

    def evaluate(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Evaluate every expression on every row.

        :param batch: rows with the columns of the schema that the expressions were checked against.
        :return: an array for each expression, by name; null where the value is NULL.
        """
        values: list[Any] = []
        for step in self.steps:
            operands = [values[number] for number in step.operands] or [batch]
            values.append(step.compute(*operands))
        return {
            name: _array(values[result.step], batch.num_rows, STORED[result.kind])
            for name, result in self.results.items()
        }


def _array(values: Any, rows: int, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Scalar):
        return pa.repeat(values, rows) if values.is_valid else pa.nulls(rows, kind)
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
