"""Fitting what makes probabilities of logits, on rows that the model has not learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from modelmill.tasks.base import Task
from modelmill.tasks.calibration import Calibration, Isotonic, Temperature, plain_probabilities
from modelmill.training.options import CalibrationOptions, IsotonicRegression, TemperatureScaling

Logits = npt.NDArray[np.float32]

_LIMITS = (-3.0, 3.0)
"""Of the temperature's logarithm: from a twentieth to twenty."""
_LEAST_ROWS = 20


def fit_calibration(
    options: CalibrationOptions | None, logits: Logits, targets: npt.NDArray[Any], *, task: Task
) -> Calibration | None:
    """Fit a calibration.

    :param options: which; None: none.
    :param logits: of validation rows, ``(rows, classes)``.
    :param targets: as in :class:`~modelmill.tasks.examples.LabelledData`.
    :param task: the kind of label.
    :return: the calibration; None for numbers, or with fewer than 20 rows.
    """
    if options is None or not task.has_classes or len(logits) < _LEAST_ROWS:
        return None
    wide = logits.astype(np.float64)
    indicators = task.indicators(targets, logits.shape[1])
    return _FITS[type(options)](wide, indicators, task.exclusive)


def _temperature(
    logits: npt.NDArray[np.float64], indicators: npt.NDArray[np.float64], exclusive: bool
) -> Temperature:
    from scipy.optimize import minimize_scalar
    from scipy.special import log_expit, log_softmax

    def loss(log: float) -> float:
        scaled = logits / np.exp(log)
        if exclusive:
            return float(-(indicators * log_softmax(scaled, axis=1)).sum())
        return float(-(indicators * log_expit(scaled) + (1 - indicators) * log_expit(-scaled)).sum())

    found = minimize_scalar(loss, bounds=_LIMITS, method="bounded", options={"xatol": 1e-4})
    return Temperature(temperature=float(np.exp(found.x)))


def _isotonic(
    logits: npt.NDArray[np.float64], indicators: npt.NDArray[np.float64], exclusive: bool
) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression as Curve

    plain = plain_probabilities(logits, exclusive=exclusive)
    curves = [
        Curve(y_min=0, y_max=1, out_of_bounds="clip").fit(plain[:, column], indicators[:, column])
        for column in range(plain.shape[1])
    ]
    return Isotonic(
        points=tuple(tuple(map(float, curve.X_thresholds_)) for curve in curves),
        values=tuple(tuple(map(float, curve.y_thresholds_)) for curve in curves),
    )


_FITS: Mapping[type[Any], Callable[[Any, Any, bool], Calibration]] = {
    TemperatureScaling: _temperature,
    IsotonicRegression: _isotonic,
}
