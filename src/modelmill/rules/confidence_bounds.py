"""Thresholds and bands that keep a promise on new rows: chosen by a bound, not by a point estimate.

Bounds are those of C. J. Clopper and E. S. Pearson, *The use of confidence or fiducial limits* (1934): exact
for any number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelmill.errors import DatasetError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_THRESHOLDS = 20
"""Thresholds that are looked at. Each takes its part of the doubt (Bonferroni): few are enough."""


@dataclass(frozen=True)
class Threshold:
    """A suggestion: the signal is taken to be true from this probability on."""

    threshold: float
    rows: int
    """Rows that it takes."""
    precision: float
    """Share of true ones among them, on the rows at hand."""
    low: float
    """Lower bound of the precision on new rows."""
    recall: float
    """Share of the true rows that it takes, on the rows at hand."""


_CONFIDENCE = 0.95
"""Of a suggested threshold, over all thresholds that are looked at."""


def suggest_threshold(probability: Floats, truth: Bools, *, precision: float) -> Threshold | None:
    """Return the lowest threshold whose precision on new rows is at least the wanted one, with confidence.

    :param probability: of each labelled row, ``(rows,)``; NaN where the signal is unknown.
    :param truth: whether the signal should be true, ``(rows,)``.
    :param precision: what is wanted, from 0 to 1.
    :return: the suggestion; None if no threshold can be shown to keep it.
    :raises DatasetError: if there is no labelled row.
    """
    known = ~np.isnan(probability)
    probability, truth = probability[known], truth[known]
    if not len(probability):
        raise DatasetError("a threshold is suggested on labelled rows", remedy="label some rows")
    candidates = np.unique(np.quantile(probability, np.linspace(0, 1, _THRESHOLDS), method="higher"))
    doubt = (1 - _CONFIDENCE) / len(candidates)
    for threshold in candidates:
        taken = probability >= threshold
        hits, rows = int((taken & truth).sum()), int(taken.sum())
        low = lower_bound(hits, rows, doubt=doubt)
        if low >= precision:
            recall = hits / max(int(truth.sum()), 1)
            return Threshold(float(threshold), rows, hits / rows, low, recall)
    return None


def lower_bound(having: int, rows: int, *, doubt: float) -> float:
    """Return the exact lower bound of a share.

    :param having: rows that have it.
    :param rows: all rows.
    :param doubt: chance that the share is below the bound.
    :return: from 0 to 1.
    """
    from scipy.stats import beta

    return float(beta.ppf(doubt, having, rows - having + 1)) if having else 0.0


def upper_bound(having: int, rows: int, *, doubt: float) -> float:
    """Return the exact upper bound of a share.

    :param having: rows that have it.
    :param rows: all rows.
    :param doubt: chance that the share is above the bound.
    :return: from 0 to 1; 1 without rows.
    """
    return 1.0 - lower_bound(rows - having, rows, doubt=doubt) if rows else 1.0


def drop_bound(losses: int, gains: int, rows: int, *, doubt: float) -> float:
    """Return an upper bound of the drop of an accuracy, on rows that were decided both before and after.

    The drop is the share of rows whose correctness changes, times what these lose on balance: exact bounds of
    both, each with a part of the doubt. The balance is what is uncertain, so it gets nine tenths.

    :param losses: rows that are right before and wrong after.
    :param gains: rows that are wrong before and right after.
    :param rows: all labelled rows.
    :param doubt: chance that the drop is above the bound.
    :return: from -1 to 1; below 0 where the accuracy surely rises.
    """
    turned = losses + gains
    balance = 2 * upper_bound(losses, turned, doubt=0.9 * doubt) - 1
    most, least = (bound(turned, rows, doubt=0.1 * doubt) for bound in (upper_bound, lower_bound))
    return balance * (most if balance > 0 else least)
