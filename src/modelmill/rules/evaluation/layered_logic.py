"""Truth values of many conditions at once: those that depend only on earlier ones are computed side by side.

A rule set has hundreds of small steps (AND, OR, NOT), and explanations evaluate a few rows very often:
calling numpy for each step would cost more than the work itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelmill.rules.evaluation import possible_values as possible
from modelmill.rules.language import kernels
from modelmill.rules.language.program import Step

Sets = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.intp]

_OPERATORS = {
    kernels.conjunction: possible.AND,
    kernels.disjunction: possible.OR,
    # The operand of the others stands on both sides.
    kernels.negation: np.tile(possible.NOT, 8),
    kernels.is_true: np.tile(possible.IS_TRUE, 8),
    kernels.is_null: np.tile(possible.IS_NULL, 8),
}
_TABLE = np.concatenate(list(_OPERATORS.values()))
_BEGINS = {kernel: 64 * number for number, kernel in enumerate(_OPERATORS)}


@dataclass(frozen=True)
class Layer:
    """Steps that depend only on steps of earlier layers."""

    rows: Numbers
    """Rows of the logical ones."""
    left: Numbers
    right: Numbers
    """Rows of their operands."""
    begins: npt.NDArray[np.uint16]
    """Where the table of each operator begins."""
    others: tuple[int, ...]
    """Numbers of the steps that are computed one by one."""
    parents: Numbers
    """Rows of the logical steps that take one of this layer, side by side for each."""
    starts: Numbers
    """Where the parents of each begin."""
    children: Numbers
    """Rows of the steps that have such parents."""
    every: Numbers
    """Rows of all steps of the layer."""

    def forward(self, sets: Sets) -> None:
        """Compute the logical steps of the layer."""
        if len(self.rows):
            sets[self.rows] = _TABLE[sets[self.left] * np.uint8(8) + sets[self.right] + self.begins]

    def backward(self, demand: Bits, unclear: Bits) -> None:
        """Add where logical steps demand those of the layer, and drop what is settled.

        :param demand: where each step is demanded, ``(steps, bytes)`` with a bit for each row.
        :param unclear: where it is open, in the same form.
        """
        if len(self.children):
            demand[self.children] |= np.bitwise_or.reduceat(demand[self.parents], self.starts)
        demand[self.every] &= unclear[self.every]


def layers_of(
    steps: Sequence[Step], numbers: Collection[int], row: dict[int, int], leaves: set[int]
) -> list[Layer]:
    """Return the layers of some steps, from the bottom.

    :param steps: all steps of a program.
    :param numbers: those to compute; each has operands.
    :param row: row of each step that is computed or read.
    :param leaves: steps that are given; they are the first layer.
    :return: the layers.
    """
    depth = dict.fromkeys(row, 0)
    computed = set(numbers) - leaves
    for number in sorted(computed):
        depth[number] = 1 + max(depth.get(one, 0) for one in steps[number].operands)
    logical = {number for number in computed if _is_logical(steps[number], steps)}
    members: dict[int, list[int]] = {}
    for number in row:
        members.setdefault(depth[number], []).append(number)
    parents: dict[int, set[int]] = {}
    for number in logical:
        for operand in steps[number].operands:
            parents.setdefault(operand, set()).add(row[number])
    return [
        _layer(steps, one, row, logical=logical, computed=computed, parents=parents)
        for _, one in sorted(members.items())
    ]


def _is_logical(step: Step, steps: Sequence[Step]) -> bool:
    return step.kernel in _BEGINS and all(steps[one].kind == "boolean" for one in step.operands)


def _layer(
    steps: Sequence[Step],
    members: list[int],
    row: dict[int, int],
    *,
    logical: set[int],
    computed: set[int],
    parents: dict[int, set[int]],
) -> Layer:
    own = [steps[number] for number in members if number in logical]
    single = [one for one in members if one in computed and one not in logical]
    groups = {row[number]: sorted(parents[number]) for number in members if number in parents}
    return Layer(
        _numbers(row[number] for number in members if number in logical),
        _numbers(row[one.operands[0]] for one in own),
        _numbers(row[one.operands[-1]] for one in own),
        np.array([_BEGINS[one.kernel] for one in own if one.kernel], np.uint16)[:, None],
        tuple(single),
        _numbers(parent for group in groups.values() for parent in group),
        _numbers(np.cumsum([0, *map(len, groups.values())])[:-1]),
        _numbers(groups),
        _numbers(row[number] for number in members),
    )


def _numbers(found: Iterable[int]) -> Numbers:
    return np.array(list(found), np.intp)
