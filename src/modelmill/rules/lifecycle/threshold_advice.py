"""Suggests thresholds of model signals that keep a wanted precision on new rows, with confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.errors import DatasetError
from modelmill.options import Options
from modelmill.rules.confidence_bounds import lower_bound
from modelmill.rules.evaluation.full_evaluation import FullEvaluation
from modelmill.rules.language.program import reached

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_THRESHOLDS = 20
"""Thresholds that are considered. Each takes its part of the doubt (Bonferroni), so there are few."""


@dataclass(frozen=True)
class Threshold:
    """A suggestion: a signal counts as true from this probability on."""

    threshold: float
    rows: int
    """Rows that reach it."""
    precision: float
    """Share of true rows among them, on the rows at hand."""
    low: float
    """Lower bound of the precision on new rows."""
    recall: float
    """Share of the true rows that reach it, on the rows at hand."""


_CONFIDENCE = 0.95
"""Confidence of a suggested threshold, over all thresholds that are considered."""


def suggest_threshold(probability: Floats, truth: Bools, *, precision: float) -> Threshold | None:
    """Return the lowest threshold whose precision on new rows is at least the wanted one, with confidence.

    :param probability: value of the signal on labelled rows, ``(rows,)``; NaN if unknown.
    :param truth: whether the signal should be true, ``(rows,)``.
    :param precision: the wanted precision, from 0 to 1.
    :return: the suggestion; None if no threshold is shown to have the precision.
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


class ThresholdAdvice(Options):
    """The threshold from which a model signal has the wanted precision for a decision, with confidence."""

    signal: str
    decision: str
    """Decision of the rows on which the signal should be true."""
    threshold: float
    rows: int
    """Rows that reach it."""
    precision: float
    low: float
    """Lower bound of the precision on new rows."""
    recall: float


def threshold_advice(
    evaluated: FullEvaluation, truth: pa.Array, *, precision: float
) -> tuple[ThresholdAdvice, ...]:
    """Suggest a threshold for each model signal that a rule reads, and each decision of such a rule.

    :param evaluated: the rule set on labelled rows.
    :param truth: the right decision of each row; null if not known.
    :param precision: the wanted precision on new rows.
    :return: the thresholds that are shown to have it.
    """
    labelled = truth.is_valid().to_numpy(zero_copy_only=False)
    advice = []
    compiled = evaluated.compiled
    rule_set = compiled.rule_set
    reads = [
        {compiled.steps[step].column for step in reached(compiled.steps, [root])} for root in compiled.roots
    ]
    scores = {
        name
        for group in evaluated.groups
        for name, info in group.signals.items()
        if group.tier == "model" and info.kind == "float"
    }
    for name, values in evaluated.signals.items():
        if name not in scores or not labelled.any():
            continue
        found = values.cast(pa.float64()).fill_null(float("nan")).to_numpy()[labelled]
        if np.isnan(found).all():
            continue
        readers = (rule for rule, read in zip(rule_set.rules, reads, strict=True) if name in read)
        for decision in dict.fromkeys(rule.then for rule in readers):
            wanted = pc.fill_null(pc.equal(truth, decision), False).to_numpy(zero_copy_only=False)[labelled]
            best = suggest_threshold(found, wanted, precision=precision)
            if best is not None:
                advice.append(ThresholdAdvice(signal=name, decision=decision, **vars(best)))
    return tuple(advice)
