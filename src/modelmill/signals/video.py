"""Signals of videos: a measure in time, brought to one number.

The measures stand in the table, as ``measure_videos`` writes them: a list of numbers, and a list of the times
that they belong to. Signals of one measure read its lists once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

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
from modelmill.signals.values import Kind, stored

Numbers = npt.NDArray[np.float64]
Take = Literal["max", "mean", "min", "quantile", "longest_run", "share"]


class VideoSignal(Signal):
    """A measure of a video in time, brought to one number: its maximum, mean, quantile or longest run."""

    kind: Literal["video"] = "video"
    measure: ColumnName = Field(
        description="Column with a number for each time; NULL where none was measured."
    )
    times: ColumnName = Field("times", description="Column with the times, in seconds, ascending.")
    take: Take = Field(
        "mean",
        description="What is taken over time. longest_run: the longest stretch, in seconds, on which the "
        "measure is in the range of above and below; share: the share of the times on which it is.",
    )
    quantile: float = Field(0.5, ge=0, le=1, description="Which quantile is taken.")
    above: float | None = Field(None, description="The range: numbers above this one.")
    below: float | None = Field(None, description="The range: numbers below this one.")
    box: ColumnName | None = Field(
        None, description="Column with a box to show: left, top, right, bottom in pixels."
    )

    @model_validator(mode="after")
    def _range_where_there_is_one(self) -> Self:
        ranged = self.take in ("longest_run", "share")
        given = self.above is not None or self.below is not None
        if ranged != given:
            raise ValueError(
                f"{self.take} {'needs a range' if ranged else 'has no range'}: "
                f"{'set' if ranged else 'leave out'} above or below"
            )
        if self.above is not None and self.below is not None and self.above >= self.below:
            raise ValueError(f"no number is above {self.above} and below {self.below}")
        if self.take != "quantile" and "quantile" in self.model_fields_set:
            raise ValueError(f"{self.take} has no quantile: leave it out, or take quantile")
        return self


@dataclass(frozen=True)
class Taken:
    """A number, and the time that shows it best."""

    value: float
    time: float | None


def taken(times: Numbers, values: Numbers, signal: VideoSignal) -> Taken | None:
    """Bring a measure in time to one number.

    :param times: ``(samples,)``, in seconds, ascending.
    :param values: ``(samples,)``; NaN where nothing was measured: such samples count for nothing.
    :param signal: what to take.
    :return: the number; None if nothing was measured.
    """
    measured = np.isfinite(values)
    if not measured.any():
        return None
    return _TAKES[signal.take](times[measured], values[measured], signal)


def _extreme(place: Callable[[Numbers], int]) -> Callable[[Numbers, Numbers, VideoSignal], Taken]:
    def take(times: Numbers, values: Numbers, _signal: VideoSignal) -> Taken:
        at = place(values)
        return Taken(float(values[at]), float(times[at]))

    return take


def _mean(times: Numbers, values: Numbers, _signal: VideoSignal) -> Taken:
    return _nearest(times, values, float(values.mean()))


def _quantile(times: Numbers, values: Numbers, signal: VideoSignal) -> Taken:
    return _nearest(times, values, float(np.quantile(values, signal.quantile)))


def _nearest(times: Numbers, values: Numbers, value: float) -> Taken:
    return Taken(value, float(times[int(np.argmin(np.abs(values - value)))]))


def _longest_run(times: Numbers, values: Numbers, signal: VideoSignal) -> Taken:
    starts, lengths = _runs(times, _in_range(values, signal))
    if not len(starts):
        return Taken(0.0, None)
    longest = int(np.argmax(lengths))
    return Taken(float(lengths[longest]), float(starts[longest]))


def _share(times: Numbers, values: Numbers, signal: VideoSignal) -> Taken:
    return Taken(float(_in_range(values, signal).mean()), _longest_run(times, values, signal).time)


def _in_range(values: Numbers, signal: VideoSignal) -> npt.NDArray[np.bool_]:
    inside = np.ones(len(values), bool)
    if signal.above is not None:
        inside &= values > signal.above
    if signal.below is not None:
        inside &= values < signal.below
    return inside


def _runs(times: Numbers, inside: npt.NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Return where runs begin and how long they are: to the next sample, the last one as long as is usual."""
    steps = np.diff(times)
    ends = np.append(times[1:], times[-1] + (float(np.median(steps)) if len(steps) else 0.0))
    change = np.diff(np.concatenate([[0], inside.astype(np.int8), [0]]))
    first, after = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    return times[first], ends[after - 1] - times[first]


_TAKES: Mapping[Take, Callable[[Numbers, Numbers, VideoSignal], Taken]] = {
    "max": _extreme(lambda values: int(np.argmax(values))),
    "mean": _mean,
    "min": _extreme(lambda values: int(np.argmin(values))),
    "quantile": _quantile,
    "longest_run": _longest_run,
    "share": _share,
}


class VideoGroup(SignalGroup):
    """The signals of one measure.

    :param measure: the measure's column.
    :param times: the times' column.
    :param signals: configurations by name.
    """

    def __init__(self, measure: str, times: str, signals: Mapping[str, VideoSignal]) -> None:
        self.measure, self.times, self.configurations = measure, times, dict(signals)
        boxes = (signal.box for signal in signals.values())
        super().__init__(
            f"video {measure}",
            tier="measured",
            signals=dict.fromkeys(signals, SignalInfo("float", "video 1")),
            columns=tuple(dict.fromkeys([measure, times, *(box for box in boxes if box)])),
        )

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        """See :meth:`SignalGroup.begin`."""
        return _VideoEvaluation(self, chunk)


class _VideoEvaluation(Evaluation):
    def __init__(self, group: VideoGroup, chunk: pa.RecordBatch) -> None:
        self._group = group
        self._chunk = chunk

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, SignalValues]:
        series = [self._series(int(row)) for row in rows]
        found = {}
        for name in names:
            signal = self._group.configurations[name]
            one = [None if lists is None else taken(*lists, signal) for lists in series]
            numbers = [None if result is None else result.value for result in one]
            found[name] = SignalValues(pa.array(numbers, pa.float64()))
        return found

    def evidence(self, names: Sequence[str], rows: Rows) -> dict[str, pa.Array]:
        """Show the time of each number, and the box if there is one."""
        found = {}
        for name in names:
            signal = self._group.configurations[name]
            found[name] = pa.array([self._place(int(row), signal) for row in rows], EVIDENCE)
        return found

    def _place(self, row: int, signal: VideoSignal) -> list[dict[str, object]]:
        lists = self._series(row)
        result = None if lists is None else taken(*lists, signal)
        if result is None or result.time is None:
            return []
        box = None if signal.box is None else self._list(signal.box, row)
        shown = box.tolist() if box is not None and len(box) == 4 else None
        return [{"column": signal.measure, "time": result.time, "box": shown}]

    def _series(self, row: int) -> tuple[Numbers, Numbers] | None:
        times, values = self._list(self._group.times, row), self._list(self._group.measure, row)
        if times is None or values is None:
            return None
        if len(times) != len(values):
            raise ValueError(f"{len(values)} numbers of {self._group.measure} for {len(times)} times")
        return times, values

    def _list(self, column: str, row: int) -> Numbers | None:
        value = stored(self._chunk.column(column).slice(row, 1), "numbers")[0].as_py()
        return None if value is None else np.array(value, np.float64)


def _operands(_name: str, signal: VideoSignal) -> tuple[Operand, ...]:
    columns = [signal.measure, signal.times, *([signal.box] if signal.box else [])]
    return tuple(Operand(column, ("numbers",)) for column in columns)


def _result(_name: str, _signal: VideoSignal, _schema: pa.Schema | None) -> Kind:
    return "float"


def _groups(signals: Mapping[str, VideoSignal], _context: SignalContext) -> list[SignalGroup]:
    """Make a group of the signals of each measure."""
    shares: dict[tuple[str, str], dict[str, VideoSignal]] = {}
    for name, signal in signals.items():
        shares.setdefault((signal.measure, signal.times), {})[name] = signal
    return [VideoGroup(measure, times, share) for (measure, times), share in shares.items()]


video = SignalKind(
    title="Video in time", config=VideoSignal, operands=_operands, result=_result, groups=_groups
)
