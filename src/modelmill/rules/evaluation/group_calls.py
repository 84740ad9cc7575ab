"""Asking groups for signals, so that a signal that fails costs its own value and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.errors import ModelmillError, SignalError
from modelmill.signals.cascade import QuickValues
from modelmill.signals.groups import Mask, Rows, SignalGroup, SignalValues
from modelmill.signals.values import STORED, Kind, stored

Compute = Callable[[Sequence[str], Rows], Mapping[str, SignalValues]]
"""``Evaluation.compute``, or ``CascadeEvaluation.quick``, which may leave values open."""


@dataclass(frozen=True)
class Known:
    """The values of one signal for some rows."""

    values: pa.Array
    """Of the Arrow type of the signal's kind; null is unknown."""
    failures: Mapping[int, str]
    """Why a value could not be computed, by the row's number in the chunk."""
    open: Mask | bool = False
    """Where a quick look has not told the value."""


def ask(
    group: SignalGroup,
    compute: Compute,
    names: Sequence[str],
    rows: Rows,
    *,
    stop: bool,
) -> dict[str, Known]:
    """Ask a group for signals.

    Rows that cannot be computed together are halved until the ones that fail are found, so that what a row
    gets does not depend on the rows beside it: twice as many calls as rows, at most, for a signal that
    fails everywhere.

    :param group: the group.
    :param compute: of its work on the chunk.
    :param names: signals of the group.
    :param rows: at least one row.
    :param stop: whether a failure is raised instead of noted.
    :return: values by name, for these rows.
    :raises ModelmillError: if ``stop`` and a signal fails.
    """
    try:
        answers = compute(names, rows)
        found = {name: _checked(group, name, answers.get(name), rows) for name in names}
    except ModelmillError as error:
        if stop or error.retryable:  # another attempt may have the values
            raise
        return {name: _failed(group.signals[name].kind, rows, str(error)) for name in names}
    except Exception as error:  # an evaluator may raise anything
        if stop:
            raise SignalError(
                f"signals must be computable ({', '.join(names[:5])} of {group.name})",
                got=_reason(error),
                remedy="fix the signal, or set on_failure: unknown",
            ) from error
        return _isolated(group, compute, names, rows, reason=_reason(error))
    if stop:
        _refuse_failures(group, found)
    return found


def _isolated(
    group: SignalGroup,
    compute: Compute,
    names: Sequence[str],
    rows: Rows,
    *,
    reason: str,
) -> dict[str, Known]:
    if len(rows) == 1 and len(names) == 1:
        return {names[0]: _failed(group.signals[names[0]].kind, rows, reason)}
    if len(rows) == 1:
        each = [ask(group, compute, [name], rows, stop=False) for name in names]
        return {name: known for one in each for name, known in one.items()}
    middle = len(rows) // 2
    parts = (rows[:middle], rows[middle:])
    halves = [ask(group, compute, names, part, stop=False) for part in parts]
    return {
        name: Known(
            pa.concat_arrays([half[name].values for half in halves]),
            {**halves[0][name].failures, **halves[1][name].failures},
            np.concatenate(
                [
                    np.broadcast_to(half[name].open, len(part))
                    for half, part in zip(halves, parts, strict=True)
                ]
            ),
        )
        for name in names
    }


def _checked(group: SignalGroup, name: str, answers: SignalValues | None, rows: Rows) -> Known:
    if answers is None or len(answers.values) != len(rows):
        raise SignalError(
            f"a group answers for every signal and row ({group.name})",
            got=f"{name}: {'nothing' if answers is None else f'{len(answers.values)} of {len(rows)} rows'}",
            remedy="fix its evaluator",
        )
    kind = group.signals[name].kind
    values = answers.values
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    failures: dict[int, str] = {}
    if answers.failures is not None:
        places = np.flatnonzero(answers.failures.is_valid().to_numpy(zero_copy_only=False))
        failures = {int(rows[place]): str(answers.failures[int(place)]) for place in places}
    if group.tier != "explicit" and pa.types.is_floating(values.type):
        nan = np.flatnonzero(pc.is_nan(values).fill_null(False).to_numpy(zero_copy_only=False))
        failures |= {int(row): "the value is NaN" for row in rows[nan]}
    try:
        unclear = answers.open if isinstance(answers, QuickValues) else False
        return Known(stored(values, kind), failures, unclear)
    except pa.ArrowException as error:
        raise SignalError(
            f"signal {name!r} has values of kind {kind}", got=values.type, remedy="fix its evaluator"
        ) from error


def _failed(kind: Kind, rows: Rows, reason: str) -> Known:
    return Known(pa.nulls(len(rows), STORED[kind]), {int(row): reason for row in rows})


def _refuse_failures(group: SignalGroup, found: Mapping[str, Known]) -> None:
    for name, known in found.items():
        for row, reason in known.failures.items():
            raise SignalError(
                f"signals must be computable ({name} of {group.name})",
                got=f"row {row}: {reason}",
                remedy="fix the signal, or set on_failure: unknown",
            )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
