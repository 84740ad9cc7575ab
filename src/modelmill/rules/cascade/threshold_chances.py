"""How probable it is that a model is above a threshold, given what a cheap model says.

Logistic in the cheap model's logit, fitted with J. Platt's targets (*Probabilistic Outputs for Support Vector
Machines*, 1999).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ThresholdChance:
    """The chance that a signal is above a threshold: logistic in the cheap model's logit."""

    threshold: float
    slope: float
    offset: float

    def reached(self, rate: float) -> float:
        """Return the cheap model's probability from which on the chance is at least ``rate``; 0 to 1."""
        logit = np.log(rate / (1 - rate)) - self.offset
        if self.slope < _FLATTEST:  # the cheap model tells nothing: always, or never
            return 0.0 if logit <= 0 else 1.0
        return float(1 / (1 + np.exp(-np.clip(logit / self.slope, -700, 700))))


_FLATTEST = 1e-6


def fit_chance(threshold: float, cheap: Floats, above: npt.NDArray[np.bool_]) -> ThresholdChance:
    """Fit the chance of being above a threshold; because of Platt's targets it is never 0 or 1.

    :param threshold: the threshold.
    :param cheap: probabilities of the cheap model, ``(rows,)``.
    :param above: whether the model itself is above the threshold, ``(rows,)``.
    :return: the chance.
    """
    from scipy.optimize import minimize

    count, hits = len(above), int(above.sum())
    targets = np.where(above, (hits + 1) / (hits + 2), 1 / (count - hits + 2))
    rate = (hits + 1) / (count + 2)
    level = float(np.log(rate / (1 - rate)))
    logits = _logit(cheap)
    if not 0 < hits < count:
        return ThresholdChance(threshold, 0.0, level)

    def loss(weights: Floats) -> tuple[float, Floats]:
        z = weights[0] * logits + weights[1]
        error = 1 / (1 + np.exp(-z)) - targets
        value = float((np.logaddexp(0, z) - targets * z).mean())
        return value, np.array([(error * logits).mean(), error.mean()])

    found = minimize(loss, np.array([0.0, level]), jac=True, bounds=[(0, None), (None, None)]).x
    slope = float(found[0])
    return ThresholdChance(threshold, slope, float(found[1]) if slope >= _FLATTEST else level)


def _logit(probability: Floats) -> Floats:
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    found: Floats = np.log(inside) - np.log1p(-inside)
    return found
