"""Signals that a measure computes: deterministic code over columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, JsonValue, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from modelmill.errors import ConfigError, SignalError, did_you_mean
from modelmill.signals.groups import Evaluation, Rows, SignalContext, SignalGroup, SignalInfo, SignalValues
from modelmill.signals.kinds import ColumnName, Operand, Signal, SignalKind
from modelmill.signals.measures import Measure, MeasureOptions, measure_named, measures
from modelmill.signals.values import NUMBERS, Kind, stored


class MeasuredSignal(Signal):
    """What deterministic code measures of columns, such as the sharpness of an image."""

    kind: Literal["measured"] = "measured"
    function: str = Field(
        min_length=1, description="Name of a registered function.", json_schema_extra={"format": "measure"}
    )
    columns: tuple[ColumnName, ...] = Field(min_length=1)
    options: dict[str, JsonValue] = Field({}, validate_default=True)

    @field_validator("function")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            measure_named(name)
        except ConfigError as error:
            raise PydanticCustomError("measure", "{rule}; {remedy}", vars(error)) from error
        return name

    @field_validator("columns")
    @classmethod
    def _as_many_as_it_reads(cls, columns: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "function" in info.data:
            measure = measure_named(info.data["function"])
            if len(columns) != len(measure.operands):
                raise PydanticCustomError(
                    "measure_columns",
                    "{name} reads {count}, of kind {kinds}",
                    {
                        "name": measure.name,
                        "count": f"{len(measure.operands)} column{'s' * (len(measure.operands) > 1)}",
                        "kinds": ", ".join(measure.operands),
                    },
                )
        return columns

    @field_validator("options")
    @classmethod
    def _valid(cls, options: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        if "function" not in info.data:
            return options
        known = measure_named(info.data["function"]).options
        unknown = [
            InitErrorDetails(type=_unknown_option(name, known), loc=(name,), input=name)
            for name in options
            if name not in known.model_fields
        ]
        if unknown:
            raise ValidationError.from_exception_data("options", unknown)
        known.model_validate(options)
        return options

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        """Add the names of the measures, and the options of each: what a form offers."""
        schema: dict[str, Any] = handler.resolve_ref_schema(handler(core_schema))
        known = measures()
        schema["properties"]["function"]["enum"] = list(known)
        schema["dependencies"] = {
            "function": {
                "oneOf": [
                    {
                        "properties": {
                            "function": {"const": name},
                            "options": _options_schema(measure, handler),
                        }
                    }
                    for name, measure in known.items()
                ]
            }
        }
        return schema

    @property
    def measure(self) -> Measure:
        """The function that measures."""
        return measure_named(self.function)


def _options_schema(measure: Measure, handler: Any) -> dict[str, Any]:
    schema: dict[str, Any] = handler.resolve_ref_schema(handler(measure.options.__pydantic_core_schema__))
    if not schema["properties"]:
        del schema["description"]
    return {**schema, "title": "Options"}


def _unknown_option(name: str, known: type[MeasureOptions]) -> PydanticCustomError:
    remedy = did_you_mean(name, known.model_fields)
    return PydanticCustomError("measure_option", "an option must be known; {remedy}", {"remedy": remedy})


class MeasuredGroup(SignalGroup):
    """One measured signal.

    :param name: its name.
    :param signal: its configuration.
    """

    def __init__(self, name: str, signal: MeasuredSignal) -> None:
        self.measure = signal.measure
        self.options: MeasureOptions = self.measure.options.model_validate(signal.options)
        info = SignalInfo(self.measure.result, f"{self.measure.name} {self.measure.version}")
        super().__init__(f"measure {name}", tier="measured", signals={name: info}, columns=signal.columns)

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """See :meth:`SignalGroup.begin`."""
        return _MeasuredEvaluation(self, chunk)


class _MeasuredEvaluation(Evaluation):
    def __init__(self, group: MeasuredGroup, chunk: pa.RecordBatch) -> None:
        self._group = group
        self._chunk = chunk

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, SignalValues]:
        measure, operands = self._group.measure, []
        for column, kind in zip(self._group.columns, measure.operands, strict=True):
            values = self._chunk.column(column)
            if len(rows) < self._chunk.num_rows:
                values = values.take(pa.array(rows))
            operands.append(stored(values, kind))
        found = measure.compute(*operands, self._group.options)
        if not isinstance(found, pa.Array) or len(found) != len(rows):
            raise SignalError(
                f"measure {measure.name} must return an Arrow array with a value for each row, {len(rows)}",
                got=f"{len(found)} values" if isinstance(found, pa.Array) else type(found).__name__,
                remedy="fix the measure",
            )
        return dict.fromkeys(names, SignalValues(found))


def _operands(_name: str, signal: MeasuredSignal) -> tuple[Operand, ...]:
    return tuple(
        Operand(column, tuple(sorted(NUMBERS)) if kind == "float" else (kind,))
        for column, kind in zip(signal.columns, signal.measure.operands, strict=True)
    )


def _result(_name: str, signal: MeasuredSignal, _schema: pa.Schema | None) -> Kind:
    return signal.measure.result


def _groups(signals: Mapping[str, MeasuredSignal], _context: SignalContext) -> list[SignalGroup]:
    """Make a group of each measured signal: nothing is shared between them."""
    return [MeasuredGroup(name, signal) for name, signal in signals.items()]


measured = SignalKind(
    title="Measure", config=MeasuredSignal, operands=_operands, result=_result, groups=_groups
)
