"""Measures as signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from pydantic import ValidationError

from modelmill.errors import ConfigError, SignalError
from modelmill.rules.rule_set import MeasuredSignal
from modelmill.signals.columns import check_operand
from modelmill.signals.groups import Answers, Evaluation, Rows, SignalGroup, SignalInfo, Site, evaluator
from modelmill.signals.measures import Measure, MeasureOptions, measure_named
from modelmill.signals.values import NUMBERS, stored


class MeasuredGroup(SignalGroup):
    """One measured signal.

    :param name: its name.
    :param signal: its configuration.
    :param measure: what it names.
    :param options: what the measure is told.
    """

    def __init__(self, name: str, signal: MeasuredSignal, measure: Measure, options: MeasureOptions) -> None:
        info = SignalInfo(measure.result, f"{measure.name} {measure.version}")
        super().__init__(f"measure {name}", tier="measured", signals={name: info}, columns=signal.columns)
        self.measure = measure
        self.options = options

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """See :meth:`SignalGroup.begin`.

        :param chunk: the rows.
        :return: the evaluation.
        """
        return _MeasuredEvaluation(self, chunk)


class _MeasuredEvaluation(Evaluation):
    def __init__(self, group: MeasuredGroup, chunk: pa.RecordBatch) -> None:
        self._group = group
        self._chunk = chunk

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, Answers]:
        measure, operands = self._group.measure, []
        for column, kind in zip(self._group.columns, measure.operands, strict=True):
            values = self._chunk.column(column)
            if len(rows) < self._chunk.num_rows:
                values = values.take(pa.array(rows))
            operands.append(stored(values, kind))
        found = measure.compute(*operands, self._group.options)
        if len(found) != len(rows):
            raise SignalError(
                f"a measure gives a value for each row: {len(rows)}",
                got=f"{len(found)} of {measure.name}",
                remedy="mend the measure",
            )
        return dict.fromkeys(names, Answers(found))


@evaluator(MeasuredSignal)
def measured_groups(signals: Mapping[str, MeasuredSignal], site: Site) -> list[SignalGroup]:
    """Make a group of each measured signal: nothing is shared between them.

    :param signals: the signals.
    :param site: the input's columns.
    :return: the groups.
    :raises SignalError: if a measure, an option or a column does not exist or does not fit.
    """
    return [_group(name, signal, site.schema) for name, signal in signals.items()]


def _group(name: str, signal: MeasuredSignal, schema: pa.Schema) -> MeasuredGroup:
    try:
        measure = measure_named(signal.function)
        options = measure.options.model_validate(signal.options)
    except (ConfigError, ValidationError) as error:
        said = (
            "; ".join(f"{one['loc']}: {one['msg']}" for one in error.errors())
            if isinstance(error, ValidationError)
            else str(error)
        )
        raise SignalError(
            f"signal {name!r}: {said}", remedy="see docs/decisions.md for the measures"
        ) from error
    if len(signal.columns) != len(measure.operands):
        raise SignalError(
            f"signal {name!r}: {measure.name} reads {len(measure.operands)} columns",
            got=", ".join(signal.columns),
            remedy=f"name columns of kind {', '.join(measure.operands)}",
        )
    for column, kind in zip(signal.columns, measure.operands, strict=True):
        check_operand(name, column, sorted(NUMBERS) if kind == "float" else (kind,), schema)
    return MeasuredGroup(name, signal, measure, options)
