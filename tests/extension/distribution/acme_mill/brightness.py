"""A kind of signal: how bright a photo is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from acme_mill.pgm import pixels
from modelmill.errors import SignalError
from modelmill.signals.groups import (
    EVIDENCE,
    Evaluation,
    Rows,
    SignalContext,
    SignalGroup,
    SignalInfo,
    SignalValues,
)
from modelmill.signals.kinds import ColumnName, Operand, Signal, SignalKind
from modelmill.signals.values import Kind


class BrightnessSignal(Signal):
    """How bright a photo is: from 0, black, to 1, white."""

    kind: Literal["brightness"] = "brightness"
    column: ColumnName
    bands: int = Field(
        1, ge=1, le=8, description="The brightest of so many bands, from top to bottom, is taken."
    )

    @field_validator("column")
    @classmethod
    def _is_no_address(cls, column: str) -> str:
        if column.endswith("_url"):
            raise SignalError("a photo is bytes, not an address", got=column, remedy="name a column of bytes")
        return column


class BrightnessGroup(SignalGroup):
    """One brightness signal."""

    def __init__(self, name: str, signal: BrightnessSignal) -> None:
        infos = {name: SignalInfo("float", "brightness 1")}
        super().__init__(f"brightness {name}", tier="measured", signals=infos, columns=(signal.column,))
        self.signal = signal

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """Begin to work on a chunk of rows."""
        return _BrightnessEvaluation(chunk.column(self.signal.column), self.signal)


class _BrightnessEvaluation(Evaluation):
    def __init__(self, photos: pa.Array, signal: BrightnessSignal) -> None:
        self._photos = photos
        self._signal = signal

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, SignalValues]:
        found = [self._brightest(row) for row in rows]
        values = pa.array([None if one is None else one[0] for one in found], pa.float64())
        return dict.fromkeys(names, SignalValues(values))

    def evidence(self, names: Sequence[str], rows: Rows) -> dict[str, pa.Array]:
        """Show the brightest band of each photo as a box."""
        places = []
        for row in rows:
            found = self._brightest(row)
            box = None if found is None else {"column": self._signal.column, "box": found[1]}
            places.append([] if box is None else [box])
        return dict.fromkeys(names, pa.array(places, EVIDENCE))

    def _brightest(self, row: int) -> tuple[float, list[int]] | None:
        content = self._photos[int(row)].as_py()
        if content is None:
            return None
        image = pixels(content)
        bands = np.array_split(image, min(self._signal.bands, len(image)))
        best = max(range(len(bands)), key=lambda number: float(bands[number].mean()))
        top = sum(len(band) for band in bands[:best])
        box = [0, top, image.shape[1], top + len(bands[best])]
        return float(bands[best].mean()) / 255, box


def _operands(_name: str, signal: BrightnessSignal) -> tuple[Operand, ...]:
    return (Operand(signal.column, ("bytes",)),)


def _result(_name: str, _signal: BrightnessSignal, _schema: pa.Schema | None) -> Kind:
    return "float"


def _groups(signals: Mapping[str, BrightnessSignal], _context: SignalContext) -> list[SignalGroup]:
    return [BrightnessGroup(name, signal) for name, signal in signals.items()]


brightness = SignalKind(
    title="Brightness of a photo",
    config=BrightnessSignal,
    operands=_operands,
    result=_result,
    groups=_groups,
)
