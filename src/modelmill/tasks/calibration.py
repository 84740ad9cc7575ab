"""From logits to probabilities: plain numbers, fitted on the validation split and kept in the bundle.

Temperature scaling is that of Guo et al., "On Calibration of Modern Neural Networks" (2017, arXiv
1706.04599); isotonic calibration that of Zadrozny and Elkan (2002), for each class against the others and
normalised, as scikit-learn's ``CalibratedClassifierCV`` does it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from modelmill.options import Record

FloatArray = npt.NDArray[np.float32]


class Temperature(Record):
    """Logits are divided by a temperature."""

    kind: Literal["temperature"] = "temperature"
    temperature: float = Field(gt=0, allow_inf_nan=False)

    def apply(self, logits: npt.NDArray[np.float64], *, exclusive: bool) -> npt.NDArray[np.float64]:
        """Return probabilities.

        :param logits: ``(rows, classes)``.
        :param exclusive: whether a row has exactly one class.
        :return: ``(rows, classes)``.
        """
        return plain_probabilities(logits / self.temperature, exclusive=exclusive)


class Isotonic(Record):
    """The probability of each class goes through a rising curve, linear between its points."""

    kind: Literal["isotonic"] = "isotonic"
    points: tuple[tuple[float, ...], ...]
    """Of each class: uncalibrated probabilities, rising."""
    values: tuple[tuple[float, ...], ...]
    """Of each class: the calibrated probability at each point, not falling."""

    @model_validator(mode="after")
    def _curves_are_whole(self) -> Isotonic:
        if len(self.points) != len(self.values) or any(
            len(points) != len(values) or not points
            for points, values in zip(self.points, self.values, strict=False)
        ):
            raise ValueError("each class has as many points as values, and at least one")
        return self

    def apply(self, logits: npt.NDArray[np.float64], *, exclusive: bool) -> npt.NDArray[np.float64]:
        """Return probabilities.

        :param logits: ``(rows, classes)``.
        :param exclusive: whether a row has exactly one class: then each row is made to sum to 1.
        :return: ``(rows, classes)``.
        """
        plain = plain_probabilities(logits, exclusive=exclusive)
        curves = zip(plain.T, self.points, self.values, strict=True)
        found = np.stack([np.interp(column, points, values) for column, points, values in curves], axis=1)
        if not exclusive:
            return found
        total = found.sum(axis=1, keepdims=True)
        # Where every curve says zero, nothing is known of the row.
        return np.where(total > 0, found / np.where(total > 0, total, 1.0), 1.0 / found.shape[1])


Calibration = Annotated[Temperature | Isotonic, Field(discriminator="kind")]


def plain_probabilities(logits: npt.NDArray[np.float64], *, exclusive: bool) -> npt.NDArray[np.float64]:
    """Return the softmax or the sigmoid.

    :param logits: ``(rows, classes)``.
    :param exclusive: whether a row has exactly one class.
    :return: ``(rows, classes)``.
    """
    if exclusive:
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)))  # the sigmoid, without overflow
