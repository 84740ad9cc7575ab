"""Groups of signals that fail on many rows at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from modelmill.rules.evaluation import group_calls
from modelmill.rules.evaluation.group_calls import call_group
from modelmill.signals.groups import Evaluation, Rows, SignalGroup, SignalInfo, SignalValues


class Doubles(SignalGroup):
    """Twice a number; fails on more rows than ``most``, and on each row that is negative."""

    def __init__(self, most: int) -> None:
        infos = {"twice": SignalInfo("integer", "1")}
        super().__init__("doubles", tier="measured", signals=infos, columns=("number",))
        self.most = most

    def begin(self, chunk: pa.RecordBatch) -> Evaluation:
        return _Doubling(chunk.column("number"), self.most)


class _Doubling(Evaluation):
    def __init__(self, numbers: pa.Array, most: int) -> None:
        self.numbers, self.most, self.calls = numbers, most, 0

    def compute(self, names: Sequence[str], rows: Rows) -> dict[str, SignalValues]:
        self.calls += 1
        numbers = self.numbers.take(pa.array(rows)).to_pylist()
        if len(rows) > self.most or min(numbers) < 0:
            raise MemoryError("too much")
        return dict.fromkeys(names, SignalValues(pa.array([2 * number for number in numbers])))


@pytest.mark.parametrize(("most", "bad", "warnings"), [(64, (), 0), (7, (), 1), (64, (21,), 0)])
def test_rows_that_fail_only_together_have_their_values_and_are_told(
    most: int, bad: tuple[int, ...], warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    group_calls._warn_of_parts.cache_clear()
    group = Doubles(most)
    numbers = [-1 if number in bad else number for number in range(64)]
    work = group.begin(pa.RecordBatch.from_pydict({"number": numbers}))
    for _ in range(2):
        found = call_group(group, work.compute, ["twice"], np.arange(64), stop=False)["twice"]
        assert found.values.to_pylist() == [None if n in bad else 2 * n for n in range(64)]
        assert found.failures == dict.fromkeys(bad, "MemoryError: too much")
    said = [record.getMessage() for record in caplog.records]
    assert said == warnings * [
        "doubles is computed in small parts, because it fails on many rows at once: MemoryError: too much"
    ]
