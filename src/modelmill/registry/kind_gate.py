"""The gate for models that answer with sets of classes, or with numbers.

The first metric of the kind (micro-F1, or R²; macro-F1 if the configuration asks for it) is compared with the
parent, the champion and the baselines by a paired bootstrap on the same test rows. What looks at single
right answers (recall of classes, slices, calibration) has no meaning here and is listed as not judged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from modelmill.evaluation.kind_judge import KindJudge, kind_baselines, kind_judge
from modelmill.evaluation.kinds import Floats, KindMetric, kind_difference
from modelmill.registry.checks import findings_of
from modelmill.registry.comparisons import Finding, NotJudged

if TYPE_CHECKING:
    from modelmill.registry.contestants import Case, Contender
    from modelmill.steps.gate import GateConfig

_OF_FILES = ("latency", "size")
"""Further checks that do not look at answers."""


def kind_findings(config: GateConfig, case: Case) -> Iterator[Finding | NotJudged]:
    """Compare a challenger with its parent, the champion and the baselines.

    :param config: limits and further checks.
    :param case: what is judged.
    :yield: what was found, and what cannot be judged.
    :raises ModelError: if the label column, or what the challenger is compared with, is of another kind.
    """
    others = [other for other in (case.parent, case.champion) if other]
    judge = kind_judge(case.dataset, [one.info for one in (case.challenger, *others)], case.label)
    metric = _metric(config, judge)
    own = _answers(case.challenger, judge)
    for other in others:
        yield _finding(other.name, _answers(other, judge), own, judge, metric, config, case, check="metric")
    for name, given in kind_baselines(judge, case.dataset).items():
        yield _finding(name, given, own, judge, metric, config, case, check="baseline")
    if case.reference and config.max_class_drop is not None:
        yield _not_judged("class", f"classes, {case.reference.name}", judge)
    for check in config.checks:
        if check.check in _OF_FILES:
            yield from findings_of(check, case)
        else:
            yield _not_judged(check.check, check.check, judge)


def _metric(config: GateConfig, judge: KindJudge) -> KindMetric:
    wanted = [metric for metric in judge.metrics if metric.name == config.metric]
    return (wanted or [judge.metrics[0]])[0]


def _answers(contender: Contender, judge: KindJudge) -> Floats:
    # A row without an answer names no class, and no number but zero.
    return judge.answers(contender.info, np.where(contender.scored[:, None], contender.logits, 0))


def _finding(
    name: str,
    other: Floats,
    challenger: Floats,
    judge: KindJudge,
    metric: KindMetric,
    config: GateConfig,
    case: Case,
    *,
    check: str,
) -> Finding:
    how = case.how
    found = kind_difference(
        metric, other, challenger, judge.truth, confidence=how.confidence, resamples=how.resamples
    )
    not_worse = round((1 - found.beyond) * how.resamples)  # resamples
    return Finding(
        check=check,
        name=name,
        metric=metric.name,
        unit="share",
        challenger=metric.of(challenger, judge.truth),
        other=metric.of(other, judge.truth),
        worse=found.value,
        limit=config.max_drop if check == "metric" else config.max_below_baseline,
        low=found.low,
        high=found.high,
        p_value=(not_worse + 1) / (how.resamples + 1),  # never zero: no test is that sure
        rows=len(judge.truth),
        proof=config.proof and check == "metric",
    )


def _not_judged(check: str, name: str, judge: KindJudge) -> NotJudged:
    reason = f"it asks whether each row's one class is right, and {judge.label} holds {judge.kind}"
    return NotJudged(check=check, name=name, rows=len(judge.truth), reason=reason)
