"""Signals that are columns of the input: nothing is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa
from pydantic import Field

from modelmill.signals.groups import Evaluation, Rows, SignalContext, SignalGroup, SignalInfo, SignalValues
from modelmill.signals.kinds import Operand, Signal, SignalKind
from modelmill.signals.values import Kind, column_kind


class ColumnSignal(Signal):
    """A column of the input table."""

    kind: Literal["column"] = "column"
    column: str | None = Field(
        None,
        description="Column; empty: the one that has the signal's name.",
        json_schema_extra={"format": "column"},
    )


class ColumnGroup(SignalGroup):
    """All columns that a rule set reads.

    :param signals: the signals.
    :param columns: the column of each.
    """

    def __init__(self, signals: Mapping[str, SignalInfo], columns: Mapping[str, str]) -> None:
        super().__init__("columns", tier="explicit", signals=signals, columns=tuple(columns.values()))
        self._column = dict(columns)

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """See :meth:`SignalGroup.begin`."""
        return _ColumnEvaluation(chunk, self._column)


class _ColumnEvaluation(Evaluation):
    def __init__(self, chunk: pa.RecordBatch, column: Mapping[str, str]) -> None:
        self._chunk = chunk
        self._column = column

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, SignalValues]:
        everything = len(rows) == self._chunk.num_rows
        found: dict[str, SignalValues] = {}
        for name in names:
            values = self._chunk.column(self._column[name])
            found[name] = SignalValues(values if everything else values.take(pa.array(rows)))
        return found


def _operands(name: str, signal: ColumnSignal) -> tuple[Operand, ...]:
    return (Operand(signal.column or name),)


def _result(name: str, signal: ColumnSignal, schema: pa.Schema | None) -> Kind | None:
    column = signal.column or name
    place = (
        -1 if schema is None else schema.get_field_index(column)
    )  # -1: there is none, or there are several
    return None if schema is None or place < 0 else column_kind(schema.field(place).type)


def _groups(signals: Mapping[str, ColumnSignal], context: SignalContext) -> list[SignalGroup]:
    """Make the group of all columns."""
    columns = {name: signal.column or name for name, signal in signals.items()}
    kinds = {name: column_kind(context.schema.field(column).type) for name, column in columns.items()}
    infos = {name: SignalInfo(kind) for name, kind in kinds.items() if kind}
    return [ColumnGroup(infos, columns)]


column = SignalKind(title="Column", config=ColumnSignal, operands=_operands, result=_result, groups=_groups)
