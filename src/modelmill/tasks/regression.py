"""A number a row. Targets: the number, ``(rows,)`` float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from modelmill.datasets.examples import Places
from modelmill.errors import DatasetError
from modelmill.tasks.base import Measures, Targets, TargetsBySplit, Task
from modelmill.tasks.calibration import Calibration, FloatArray

if TYPE_CHECKING:
    import pyarrow as pa
    import torch


class Regression(Task):
    """A number a row: the logit itself, squared error. It is learned in units of its standard deviation."""

    kind = "number"
    has_classes = False

    def outputs(self, classes: Sequence[str]) -> int:  # noqa: ARG002 (there are none)
        """See :meth:`Task.outputs`."""
        return 1

    def describe(self, classes: Sequence[str]) -> str:  # noqa: ARG002 (there are none)
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
        weights: torch.Tensor | None = None,  # noqa: ARG002 (there are no classes)
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

    def distances(self, logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:  # noqa: ARG002
        """See :meth:`Task.distances`; the squared error."""
        return (logits[:, 0] - teacher[:, 0]).square()

    def balanced_weights(self, targets: Targets, outputs: int) -> FloatArray:  # noqa: ARG002
        """See :meth:`Task.balanced_weights`."""
        return np.ones(outputs, dtype=np.float32)

    def indicators(self, targets: Targets, outputs: int) -> npt.NDArray[np.float64]:
        """See :meth:`Task.indicators`."""
        return targets.astype(np.float64).reshape(-1, outputs)

    def probabilities(self, logits: FloatArray, calibration: Calibration | None) -> FloatArray:  # noqa: ARG002
        """Return the numbers as they are."""
        return logits

    def answers(
        self,
        logits: FloatArray,
        *,
        classes: Sequence[str],  # noqa: ARG002
        calibration: Calibration | None,  # noqa: ARG002
    ) -> tuple[list[str], list[float]]:
        """See :meth:`Task.answers`."""
        return [str(value) for value in logits[:, 0]], logits[:, 0].tolist()

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
