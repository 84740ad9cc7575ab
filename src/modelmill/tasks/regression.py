"""A number a row. Targets: the number, ``(rows,)`` float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from modelmill.errors import DatasetError
from modelmill.tasks.base import Answers, Measures, Targets, TargetsBySplit, Task
from modelmill.tasks.baselines import MEAN, RIDGE
from modelmill.tasks.calibration import Calibration, FloatArray
from modelmill.tasks.metrics import Floats, mean_of_rows, summed
from modelmill.tokens.token_ids import Places

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


def _squares(truth: Floats, answers: Floats) -> Floats:
    """Return squared error, one, the label less the mean label, and its square, ``(rows, 4)``."""
    shifted = truth[:, 0] - truth.mean()
    errors = np.square(answers - truth)[:, 0]
    return np.column_stack([errors, np.ones(len(truth)), shifted, np.square(shifted)])


def _r2(sums: Floats) -> Floats:
    spread = sums[:, 3] - np.square(sums[:, 2]) / sums[:, 1]
    found: Floats = np.where(spread > 0, 1 - sums[:, 0] / np.where(spread > 0, spread, 1), 0.0)
    return found


def _rmse(sums: Floats) -> Floats:
    return np.sqrt(mean_of_rows(sums))


def _absolute(truth: Floats, answers: Floats) -> Floats:
    return np.column_stack([np.abs(answers - truth)[:, 0], np.ones(len(truth))])


class Regression(Task):
    """A number a row: the logit itself, squared error. It is learned in units of its standard deviation."""

    kind = "number"
    answer_type = "double"
    has_classes = False
    linear_name = RIDGE
    metrics = (
        summed("r2", _squares, _r2, is_share=False),
        summed("rmse", _squares, _rmse, more_is_better=False, is_share=False),
        summed("mae", _absolute, mean_of_rows, more_is_better=False, is_share=False),
    )
    """``rmse`` and ``mae``, the mean absolute error, are in the units of the label."""

    def outputs(self, classes: Sequence[str]) -> int:
        """See :meth:`Task.outputs`."""
        return 1

    def describe(self, classes: Sequence[str]) -> str:
        """See :meth:`Task.describe`."""
        return "a number"

    def labelled(self, column: pa.Array) -> npt.NDArray[np.bool_]:
        """Return which rows have a finite number."""
        values = column.cast("double").fill_null(np.nan).to_numpy(zero_copy_only=False)
        finite: npt.NDArray[np.bool_] = np.isfinite(values)
        return super().labelled(column) & finite

    def read_targets(self, column: pa.Array, name: str, places: Mapping[str, Places]) -> TargetsBySplit:
        """See :meth:`Task.read_targets`."""
        values = column.cast("double").to_numpy(zero_copy_only=False).astype(np.float32)
        if len(np.unique(values[places["train"]])) < 2:
            raise DatasetError(
                f"label column {name!r} must have at least two values in the train split",
                got=float(values[places["train"]][0]),
                remedy="add rows with another value, or choose another label column",
            )
        return (), {split: values[rows] for split, rows in places.items()}

    def units(self, targets: Targets) -> tuple[float, float]:
        """See :meth:`Task.units`."""
        return float(targets.mean()), float(targets.std()) or 1.0

    def loss(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        *,
        weights: torch.Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
    ) -> torch.Tensor:
        """See :meth:`Task.loss`."""
        from torch.nn import functional

        return functional.mse_loss(logits[:, 0], targets, reduction=reduction)

    def row_losses(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Task.row_losses`."""
        return (logits[:, 0] - targets.nan_to_num()).square()

    def known(self, targets: torch.Tensor) -> torch.Tensor:
        """See :meth:`Task.known`."""
        return ~targets.isnan()

    def distances(self, logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
        """See :meth:`Task.distances`; the squared error."""
        return (logits[:, 0] - teacher[:, 0]).square()

    def balanced_weights(self, targets: Targets, outputs: int) -> FloatArray:
        """See :meth:`Task.balanced_weights`."""
        return np.ones(outputs, dtype=np.float32)

    def indicators(self, targets: Targets, outputs: int) -> npt.NDArray[np.float64]:
        """See :meth:`Task.indicators`."""
        return targets.astype(np.float64).reshape(-1, outputs)

    def probabilities(self, logits: FloatArray, calibration: Calibration | None) -> FloatArray:
        """Return the numbers as they are."""
        return logits

    def answers(
        self,
        logits: FloatArray,
        *,
        classes: Sequence[str],
        calibration: Calibration | None,
    ) -> tuple[list[Any], list[float]]:
        """See :meth:`Task.answers`."""
        numbers: list[float] = logits[:, 0].astype(np.float64).tolist()
        return numbers, numbers

    def agreement(self, student: FloatArray, teacher: FloatArray) -> float:
        """See :meth:`Task.agreement`."""
        spread = float(np.square(teacher - teacher.mean(dtype=np.float64)).sum())
        error = float(np.square(student.astype(np.float64) - teacher).sum())
        return max(0.0, 1 - error / spread) if spread else float(error == 0)

    def quality(self, logits: FloatArray, targets: Targets) -> Measures:
        """See :meth:`Task.quality`."""
        squared = np.square(logits[:, 0].astype(np.float64) - targets)
        spread = np.square(targets - targets.mean(dtype=np.float64)).sum()
        return {
            "r2": float(1 - squared.sum() / spread) if spread else 0.0,
            "rmse": float(np.sqrt(squared.mean())),
        }

    def values(self, column: pa.Array) -> list[Any]:
        """See :meth:`Task.values`."""
        values: list[Any] = column.to_pylist()
        return values

    def classes_in(self, values: Sequence[Any]) -> set[str]:
        """See :meth:`Task.classes_in`."""
        return set()

    def truth(self, values: Sequence[Any], classes: Sequence[str]) -> Answers:
        """See :meth:`Task.truth`."""
        return np.array(values, dtype=np.float64).reshape(-1, 1)

    def decide(
        self,
        logits: FloatArray,
        *,
        known: Sequence[str],
        classes: Sequence[str],
        calibration: Calibration | None,
        scored: npt.NDArray[np.bool_] | None = None,
    ) -> Answers:
        """See :meth:`Task.decide`."""
        numbers = logits.astype(np.float64)
        return numbers if scored is None else np.where(scored[:, None], numbers, 0)

    def same_answers(self, answers: Answers, others: Answers) -> float:
        """See :meth:`Task.same_answers`."""
        return self.agreement(answers.astype(np.float32), others.astype(np.float32))

    def used_classes(self, truth: Answers, classes: Sequence[str]) -> set[str]:
        """See :meth:`Task.used_classes`."""
        return set()

    def plain_answer(self, truth: Answers) -> tuple[str, Answers]:
        """Return the mean."""
        return MEAN, np.full((1, 1), truth.mean())

    def fit_linear(self, features: Any, truth: Answers, new_features: Any, strength: float) -> Answers:
        """See :meth:`Task.fit_linear`."""
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=1 / strength, random_state=0).fit(features, truth[:, 0])
        found: Answers = model.predict(new_features)[:, None]
        return found
