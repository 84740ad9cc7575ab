"""Calls groups of signals, so that a signal that fails on a row costs that value and no other."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.errors import ModelmillError, SignalError
from modelmill.signals.cascade import QuickValues
from modelmill.signals.groups import Mask, Rows, SignalGroup, SignalValues
from modelmill.signals.values import STORED, Kind, column_kind, stored

_log = logging.getLogger(__name__)

Unreadable = Mapping[str, Mapping[int, str]]
"""By the name of a signal, or of a column: why its texts cannot be read, by the row's number in the chunk."""
_ALL_READABLE: Unreadable = MappingProxyType({})

Compute = Callable[[Sequence[str], Rows], Mapping[str, SignalValues]]
"""``Evaluation.compute``, or ``CascadeEvaluation.quick``, which may leave values open."""


@dataclass(frozen=True)
class CheckedValues:
    """The values of one signal on some rows, after they were checked."""

    values: pa.Array
    """Of the Arrow type of the signal's kind; null if unknown."""
    failures: Mapping[int, str]
    """Why a value could not be computed, by the row's number in the chunk."""
    open: Mask | bool = False
    """Where a quick look has left the value open."""


def readable_rows(rows: pa.RecordBatch, columns: Iterable[str]) -> tuple[pa.RecordBatch, Unreadable]:
    """Replace texts that are not UTF-8 by null: Arrow and the evaluators rely on it.

    :param rows: a chunk of rows.
    :param columns: the columns to look at; those without texts are passed over.
    :return: the rows, and why texts were replaced, by column.
    """
    found: dict[str, dict[int, str]] = {}
    for name in columns:
        column = rows.column(name)
        if column_kind(column.type) in ("text", "texts"):
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                found[name] = dict(_not_utf8(name, column))
    for name, reasons in found.items():
        broken = np.isin(np.arange(rows.num_rows), list(reasons))
        whole = rows.column(name).take(pa.array(np.arange(rows.num_rows), mask=broken))
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, pa.field(name, whole.type), whole)
    return rows, found


def _not_utf8(name: str, column: pa.Array) -> Iterable[tuple[int, str]]:
    for row, value in enumerate(column):
        try:
            value.as_py()
        except UnicodeDecodeError as error:
            byte = f"byte 0x{error.object[error.start]:02x} at {error.start:,}"
            yield row, f"the text in column {name!r} is not UTF-8 ({byte})"


def call_group(
    group: SignalGroup,
    compute: Compute,
    names: Sequence[str],
    rows: Rows,
    *,
    stop: bool,
    unreadable: Unreadable = _ALL_READABLE,
) -> dict[str, CheckedValues]:
    """Compute signals of a group on rows.

    If the rows cannot be computed together, they are halved until those that fail are found, so that the
    value of a row does not depend on the rows beside it. A signal that fails everywhere takes at most twice
    as many calls as rows.

    :param group: the group.
    :param compute: method of its work on a chunk.
    :param names: signals of the group.
    :param rows: at least one row of the chunk.
    :param stop: whether a failure is raised instead of noted.
    :param unreadable: by signal, the rows on which it fails because its input cannot be read.
    :return: values on these rows, by the signal's name.
    :raises ModelmillError: if ``stop`` and a signal fails.
    """
    try:
        answers = compute(names, rows)
        found = {
            name: _without_unreadable(
                _checked(group, name, answers.get(name), rows), unreadable.get(name), rows
            )
            for name in names
        }
    except ModelmillError as error:
        if stop or error.retryable:  # a later attempt may succeed
            raise
        return {name: _failed(group.signals[name].kind, rows, str(error)) for name in names}
    except Exception as error:  # an evaluator may raise anything
        if stop:
            raise SignalError(
                f"signals must be computable ({', '.join(names[:5])} of {group.name})",
                got=_reason(error),
                remedy="fix the signal, or set on_failure: unknown",
            ) from error
        isolated = _isolated(group, compute, names, rows, reason=_reason(error), unreadable=unreadable)
        if not any(known.failures for known in isolated.values()):
            _warn_of_parts(group.name, _reason(error))
        return isolated
    if stop:
        _refuse_failures(group, found)
    return found


@functools.cache
def _warn_of_parts(group: str, reason: str) -> None:
    """Say once that rows which fail together do not fail alone: their values are right, and take long."""
    _log.warning("%s is computed in small parts, because it fails on many rows at once: %s", group, reason)


def _isolated(
    group: SignalGroup,
    compute: Compute,
    names: Sequence[str],
    rows: Rows,
    *,
    reason: str,
    unreadable: Unreadable,
) -> dict[str, CheckedValues]:
    if len(rows) == 1 and len(names) == 1:
        return {names[0]: _failed(group.signals[names[0]].kind, rows, reason)}
    if len(rows) == 1:
        each = [call_group(group, compute, [name], rows, stop=False, unreadable=unreadable) for name in names]
        return {name: known for one in each for name, known in one.items()}
    middle = len(rows) // 2
    parts = (rows[:middle], rows[middle:])
    halves = [call_group(group, compute, names, part, stop=False, unreadable=unreadable) for part in parts]
    return {
        name: CheckedValues(
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


def _checked(group: SignalGroup, name: str, answers: SignalValues | None, rows: Rows) -> CheckedValues:
    if answers is None or len(answers.values) != len(rows):
        raise SignalError(
            f"a group must return a value for every signal and row ({group.name})",
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
        return CheckedValues(stored(values, kind), failures, unclear)
    except pa.ArrowException as error:
        raise SignalError(
            f"the values of signal {name!r} must be of kind {kind}",
            got=values.type,
            remedy="fix its evaluator",
        ) from error


def _without_unreadable(found: CheckedValues, reasons: Mapping[int, str] | None, rows: Rows) -> CheckedValues:
    if not reasons:
        return found
    broken = np.isin(rows, list(reasons))
    values = found.values.take(pa.array(np.arange(len(rows)), mask=broken))
    failures = {**found.failures, **{int(row): reasons[int(row)] for row in rows[broken]}}
    return CheckedValues(values, failures, found.open if found.open is False else found.open & ~broken)


def _failed(kind: Kind, rows: Rows, reason: str) -> CheckedValues:
    return CheckedValues(pa.nulls(len(rows), STORED[kind]), {int(row): reason for row in rows})


def _refuse_failures(group: SignalGroup, found: Mapping[str, CheckedValues]) -> None:
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
