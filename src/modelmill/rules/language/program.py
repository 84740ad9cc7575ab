"""What a set of expressions compiles to: a flat list of steps over Arrow batches.

Expressions that are compiled together share their parts: a column is brought to its kind once, and what
stands in several expressions is computed once. A flat list has no depth, so no expression is too deep to
evaluate.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from modelmill.signals.values import STORED, Kind, stored


@dataclass(frozen=True)
class Step:
    """One operation. Its result is known by the step's number."""

    compute: Callable[..., Any]
    """Takes the operands, or the batch where there are none."""
    operands: tuple[int, ...]
    """Numbers of earlier steps."""
    kind: Kind
    """Kind of the result."""
    kernel: Callable[..., Any] | None = None
    """The function of :mod:`.kernels` that ``compute`` calls; None: a column or a constant."""
    column: str | None = None
    """Column that it reads, if it reads one."""
    members: pa.Array | None = None
    """Constants of a list that is looked up in."""


@dataclass
class Steps:
    """A list of steps that grows; what is in it already is not added again."""

    steps: list[Step] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)
    """Columns that are read, in the order of their first use."""
    _known: dict[Hashable, int] = field(default_factory=dict)

    def add(self, key: Hashable, step: Step) -> int:
        """Add a step.

        :param key: says what the step computes, apart from its operands.
        :param step: the step.
        :return: the step's number.
        """
        known = self._known.setdefault((key, step.operands), len(self.steps))
        if known == len(self.steps):
            self.steps.append(step)
        return known

    def column(self, name: str, kind: Kind) -> int:
        """Add the step that reads a column.

        :param name: the column.
        :param kind: its kind.
        :return: the step's number.
        """
        self.columns[name] = None
        return self.add(
            ("column", name), Step(lambda batch: stored(batch.column(name), kind), (), kind, column=name)
        )

    def constant(self, value: Any, kind: Kind) -> int:
        """Add the step that gives a constant.

        :param value: a Python value, or None for NULL.
        :param kind: its kind.
        :return: the step's number.
        """
        scalar = pa.scalar(value, STORED[kind])
        # 0 and -0, 1 and 1.0 and true are the same to a dictionary.
        return self.add(("constant", kind, repr(value)), Step(lambda _batch: scalar, (), kind))

    def columns_of(self, root: int) -> tuple[str, ...]:
        """Return the columns that a step is made of.

        :param root: the step.
        :return: names in alphabetical order.
        """
        return tuple(
            sorted(name for number in reached(self.steps, [root]) if (name := self.steps[number].column))
        )


def reached(steps: Sequence[Step], roots: Iterable[int]) -> list[int]:
    """Return the steps that some steps are made of, and those themselves.

    :param steps: all steps.
    :param roots: numbers of the ones that are wanted.
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
    """Expressions that have been checked against a schema, ready to be evaluated."""

    steps: tuple[Step, ...]
    results: dict[str, Result]
    """By the expression's name."""
    columns: tuple[str, ...]
    """The columns that any of them reads."""

    def evaluate(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Evaluate every expression on every row.

        :param batch: rows with the columns of the schema that the expressions were checked against.
        :return: an array for each expression, by its name; null where its value is unknown.
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
