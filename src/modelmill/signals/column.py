"""Signals that are columns of the input: nothing is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from modelmill.errors import SignalError, did_you_mean
from modelmill.rules.rule_set import ColumnSignal
from modelmill.signals.groups import Answers, Evaluation, Rows, SignalGroup, SignalInfo, Site, evaluator
from modelmill.signals.values import column_kind


class ColumnGroup(SignalGroup):
    """All columns that a rule set reads.

    :param signals: the signals.
    :param columns: the column of each.
    """

    def __init__(self, signals: Mapping[str, SignalInfo], columns: Mapping[str, str]) -> None:
        super().__init__("columns", tier="explicit", signals=signals, columns=tuple(columns.values()))
        self._column = dict(columns)

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """See :meth:`SignalGroup.begin`.

        :param chunk: the rows.
        :return: the evaluation.
        """
        return _ColumnEvaluation(chunk, self._column)


class _ColumnEvaluation(Evaluation):
    def __init__(self, chunk: pa.RecordBatch, column: Mapping[str, str]) -> None:
        self._chunk = chunk
        self._column = column

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, Answers]:
        everything = len(rows) == self._chunk.num_rows
        found: dict[str, Answers] = {}
        for name in names:
            values = self._chunk.column(self._column[name])
            found[name] = Answers(values if everything else values.take(pa.array(rows)))
        return found


@evaluator(ColumnSignal)
def column_groups(signals: Mapping[str, ColumnSignal], site: Site) -> list[SignalGroup]:
    """Make the group of all columns.

    :param signals: the signals.
    :param site: the input's columns.
    :return: one group.
    :raises SignalError: if a column does not exist, or is of a type that expressions do not read.
    """
    infos: dict[str, SignalInfo] = {}
    columns: dict[str, str] = {}
    for name, signal in signals.items():
        column = signal.column or name
        if column not in site.schema.names:
            raise SignalError(
                f"the column of signal {name!r} must be in the input",
                got=column,
                remedy=did_you_mean(column, site.schema.names),
            )
        arrow = site.schema.field(column).type
        kind = column_kind(arrow)
        if kind is None:
            raise SignalError(
                f"the column of signal {name!r} must have a simple type",
                got=f"{column}: {arrow}",
                remedy="rules read booleans, numbers, texts and times; cast it when the table is made",
            )
        infos[name], columns[name] = SignalInfo(kind), column
    return [ColumnGroup(infos, columns)]
