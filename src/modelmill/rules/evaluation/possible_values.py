"""The truth values that a condition can still take while some signals are not computed yet.

A signal that is not computed yet may become anything, NULL included, so ``x IS NULL`` is as open as ``x``;
a computed NULL, in contrast, is known. The state of a condition is therefore a *set* of truth values: at
first ``{true, false, NULL}``, in the end one of them. Values of other kinds are either known or open.
Operators on sets give every truth value that the operator can give on their members (abstract interpretation,
P. Cousot and R. Cousot 1977), so a condition whose set has one member is settled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.signals.groups import Mask

TRUE, FALSE, NULL = 1, 2, 4
ANYTHING = TRUE | FALSE | NULL

Sets = npt.NDArray[np.uint8] | int
"""Sets of truth values, each a sum of the three above; a single number is the same for all rows."""


@dataclass(frozen=True)
class Uncertain:
    """Values that are not conditions, some of them open."""

    values: Any
    """Array or scalar of the Arrow type of the kind; NULL if the value is open."""
    open: Mask | bool
    """Where the value is not known yet."""


State = Sets | Uncertain


def _members(found: int) -> list[int]:
    return [value for value in (TRUE, FALSE, NULL) if found & value]


def _table(operator: Callable[[int, int], int]) -> npt.NDArray[np.uint8]:
    """Tabulate an operator for all pairs of sets; the index is ``left * 8 + right``."""
    pairs = product(range(8), range(8))
    found = [
        sum({operator(one, other) for one in _members(left) for other in _members(right)})
        for left, right in pairs
    ]
    return np.array(found, np.uint8)


def _and(left: int, right: int) -> int:
    if FALSE in (left, right):
        return FALSE
    return NULL if NULL in (left, right) else TRUE


def _not(value: int) -> int:
    return {TRUE: FALSE, FALSE: TRUE, NULL: NULL}[value]


AND = _table(_and)
OR = _table(lambda left, right: _not(_and(_not(left), _not(right))))
NOT = _table(lambda _left, right: _not(right))[-8:]
IS_TRUE = _table(lambda _left, right: TRUE if right == TRUE else FALSE)[-8:]
IS_NULL = _table(lambda _left, right: TRUE if right == NULL else FALSE)[-8:]
_OPEN = np.array([bin(found).count("1") > 1 for found in range(8)])


def looked_up(table: npt.NDArray[Any], index: Any) -> Any:
    """Look sets up in a table; the result for a single set is a plain number."""
    found = table[index]
    return found.item() if found.ndim == 0 else found


def conjunction(left: Sets, right: Sets) -> Sets:
    """Return the possible values of AND."""
    return _looked(AND, left, right)


def disjunction(left: Sets, right: Sets) -> Sets:
    """Return the possible values of OR."""
    return _looked(OR, left, right)


def _looked(table: npt.NDArray[np.uint8], left: Sets, right: Sets) -> Sets:
    found: Sets = looked_up(table, left * 8 + right)
    return found


def negation(value: Sets) -> Sets:
    """Return the possible values of NOT."""
    found: Sets = looked_up(NOT, value)
    return found


def is_true(value: Sets) -> Sets:
    """Return the possible values of IS TRUE."""
    found: Sets = looked_up(IS_TRUE, value)
    return found


def is_null(value: State) -> Sets:
    """Return the possible values of IS NULL."""
    if not isinstance(value, Uncertain):
        found: Sets = looked_up(IS_NULL, value)
        return found
    null = _null_mask(value.values)
    return _as_sets(np.where(value.open, TRUE | FALSE, np.where(null, TRUE, FALSE)))


def has(value: Sets, member: int) -> Any:
    """Return where a set contains at least one of some members."""
    return (value & member) != 0


def narrowed(before: State, after: State) -> State:
    """Combine two states of a column that do not contradict each other."""
    if not isinstance(before, Uncertain) or not isinstance(after, Uncertain):
        found: Any = before & after  # type: ignore[operator]  # both are sets: they are of one kind
        return _as_sets(found)
    if before.open is True or after.open is False:
        return after
    values = pc.if_else(pa.array(after.open), before.values, after.values)
    return Uncertain(values, after.open & before.open)


def chosen(conditions: list[Sets], values: list[Sets]) -> Sets:
    """Return the possible values of CASE, for values that are conditions.

    :param conditions: the conditions of the branches.
    :param values: the values of the branches, then that of ELSE.
    :return: the union over the branches that can be reached.
    """
    found: Any = 0
    reached: Any = True
    for condition, value in zip(conditions, values, strict=False):
        found = found | np.where(reached & has(condition, TRUE), value, 0)
        reached = reached & has(condition, FALSE | NULL)
    return _as_sets(found | np.where(reached, values[-1], 0))


def reached_branches(conditions: list[Sets]) -> list[Any]:
    """Return where each branch of a CASE can be reached, and at last its ELSE."""
    found: list[Any] = [True]
    for condition in conditions:
        found.append(found[-1] & has(condition, FALSE | NULL))
    return found


def chosen_open(conditions: list[Sets], values: list[Uncertain]) -> Any:
    """Return where the value of a CASE is open, because the branch is open or its value is.

    :param conditions: the conditions of the branches.
    :param values: the values of the branches, then that of ELSE.
    :return: a mask.
    """
    found: Any = False
    reached: Any = True
    for condition, value in zip(conditions, values, strict=False):
        may, must_not = has(condition, TRUE), has(condition, FALSE | NULL)
        found = found | (reached & may & (must_not | value.open))
        reached = reached & must_not
    return found | (reached & values[-1].open)


def first_known(values: list[Sets]) -> Sets:
    """Return the possible values of COALESCE, for conditions."""
    found: Any = 0
    reached: Any = True
    for value in values:
        found = found | np.where(reached, value & (TRUE | FALSE), 0)
        reached = reached & has(value, NULL)
    return _as_sets(found | np.where(reached, NULL, 0))


def first_open(values: list[Uncertain]) -> Any:
    """Return where the value of a COALESCE is open, for values that are not conditions."""
    found: Any = False
    reached: Any = True
    for value in values:
        found = found | (reached & value.open)
        reached = reached & _null_mask(value.values)
    return found


def reached_operands(values: list[State]) -> list[Any]:
    """Return where each operand of a COALESCE can be reached."""
    found: list[Any] = [True]
    for value in values[:-1]:
        null = has(value, NULL) if not isinstance(value, Uncertain) else value.open | _null_mask(value.values)
        found.append(found[-1] & null)
    return found


def _null_mask(values: Any) -> Any:
    if isinstance(values, pa.Scalar):
        return not values.is_valid
    if values.null_count == 0:
        return np.zeros(len(values), np.bool_)
    bits = values.buffers()[0]
    return pc.is_null(values).to_numpy(zero_copy_only=False) if bits is None else ~_bits(bits, values)


def _bits(buffer: pa.Buffer, values: pa.Array) -> Mask:
    """Return the bits of a buffer of some values: faster than a kernel of Arrow where they are few."""
    begin, count = values.offset, len(values)
    part = np.frombuffer(buffer, np.uint8, offset=begin // 8, count=(begin % 8 + count + 7) // 8)
    return np.unpackbits(part, bitorder="little", count=begin % 8 + count)[begin % 8 :].view(np.bool_)


def known_null(value: State) -> Any:
    """Return where a value is known to be NULL."""
    if isinstance(value, Uncertain):
        return _null_mask(value.values) & np.logical_not(value.open)
    return value == NULL


def sets_of(values: Any, open_rows: Any = False) -> Sets:
    """Return known conditions as sets.

    :param values: Arrow booleans, array or scalar.
    :param open_rows: where they are open.
    :return: sets.
    """
    if isinstance(values, pa.Scalar):
        plain: Any = {True: TRUE, False: FALSE, None: NULL}[values.as_py()]
        return (
            _as_sets(np.where(open_rows, ANYTHING, plain))
            if np.ndim(open_rows)
            else ANYTHING
            if open_rows
            else plain
        )
    if not values.null_count and not values.true_count and open_rows is False:
        return FALSE
    truth = _bits(values.buffers()[1], values)
    found: npt.NDArray[np.uint8] = np.uint8(FALSE) - truth.view(np.uint8)  # TRUE is one less
    if values.null_count:
        found[_null_mask(values)] = NULL
    return np.where(open_rows, np.uint8(ANYTHING), found) if np.ndim(open_rows) or open_rows else found


def uncertain(value: State) -> Uncertain:
    """Return a state in the form for operators on plain values."""
    if isinstance(value, Uncertain):
        return value
    if isinstance(value, int):
        plain = {TRUE: True, FALSE: False}.get(value)
        return Uncertain(pa.scalar(plain, pa.bool_()), bool(_OPEN[value]))
    unclear = (value != TRUE) & (value != FALSE)
    return Uncertain(pa.array(value == TRUE, pa.bool_(), mask=unclear), _OPEN[value])


def _as_sets(found: Any) -> Sets:
    return int(found) if np.ndim(found) == 0 else found.astype(np.uint8, copy=False)
