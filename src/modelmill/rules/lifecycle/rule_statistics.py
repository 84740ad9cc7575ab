"""What a rule set does on rows: how often each rule decides, and how often it is right.

Every signal is computed on every row: a rule that never decides because an earlier one always does is only
visible this way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.evaluation.statistics import Proportion
from modelmill.options import Options
from modelmill.rules.evaluation.full_evaluation import FullEvaluation

Bools = npt.NDArray[np.bool_]

_MOST_SHADOWS = 5
"""Rules that are named as shadowing another."""


class RuleStatistics(Options):
    """What one rule does on some rows."""

    name: str
    then: str
    decides: int
    """Rows that it decides."""
    true: int
    """Rows on which its condition is true, whether or not an earlier rule decides them."""
    unknown: int
    """Rows on which its condition is NULL."""
    shadowed_by: tuple[str, ...] = ()
    """If it is true on some rows and decides none: the rules that decide them, the most frequent first."""
    precision: Proportion | None = None
    """Share of the labelled rows that it decides whose right decision is the rule's."""
    recall: Proportion | None = None
    """Share of the labelled rows whose right decision is the rule's that it decides."""

    @property
    def dead(self) -> bool:
        """Whether its condition is true on no row."""
        return self.true == 0

    @property
    def shadowed(self) -> bool:
        """Whether earlier rules decide every row on which its condition is true."""
        return self.true > 0 and self.decides == 0


class RuleSetStatistics(Options):
    """What a rule set does on some rows."""

    rule_set: str
    rows: int
    decisions: dict[str, int]
    """Rows by decision."""
    default: int
    """Rows on which no rule fires."""
    unknown: int
    """Rows that are decided by ``on_unknown``."""
    rules: tuple[RuleStatistics, ...]
    labelled: int = 0
    """Rows whose right decision is known."""
    accuracy: Proportion | None = None
    """Share of right decisions among those."""
    never_decided: dict[str, int] = {}
    """Labelled rows whose right decision is none of the rule set's, by that decision: no answer is right."""


def right_decisions(labels: pa.Array, decision_of: Mapping[str, str]) -> pa.Array:
    """Return the decision that each row should have.

    :param labels: of any simple type; null if not known.
    :param decision_of: decision by label; any other label is a decision itself.
    :return: strings.
    """
    values = labels.cast(pa.string()).to_pylist()
    return pa.array([None if one is None else decision_of.get(one, one) for one in values], pa.string())


def rule_set_statistics(evaluated: FullEvaluation, truth: pa.Array | None = None) -> RuleSetStatistics:
    """Return what a rule set does on rows.

    :param evaluated: the rule set on the rows.
    :param truth: the right decision of each row, null if not known; None: of no row.
    :return: the statistics.
    """
    compiled, outcomes = evaluated.compiled, evaluated.outcomes
    decisions = evaluated.decisions()
    right = right_rows(decisions, truth)
    labelled = None if truth is None else truth.is_valid().to_numpy(zero_copy_only=False)
    rules = _rule_statistics(evaluated, truth, labelled)
    counts = Counter(decisions.to_pylist())
    strange = Counter([] if truth is None else truth.drop_null().to_pylist())
    for known in compiled.rule_set.decisions:
        del strange[known]
    return RuleSetStatistics(
        rule_set=f"{compiled.rule_set.rule_set}@{evaluated.compiled.digest[:12]}",
        rows=len(outcomes),
        decisions=dict(sorted(counts.items())),
        default=int((outcomes == compiled.no_rule).sum()),
        unknown=int((outcomes > compiled.no_rule).sum()),
        rules=rules,
        never_decided=dict(strange.most_common()),
        labelled=0 if labelled is None else int(labelled.sum()),
        accuracy=None
        if right is None or labelled is None
        else Proportion.of(int(right.sum()), int(labelled.sum())),
    )


def right_rows(decisions: pa.Array, truth: pa.Array | None) -> Bools | None:
    """Return which decisions are the right ones; None if no right decision is known."""
    if truth is None:
        return None
    found: Bools = pc.fill_null(pc.equal(decisions, truth), False).to_numpy(zero_copy_only=False)
    return found


def _rule_statistics(
    evaluated: FullEvaluation, truth: pa.Array | None, labelled: Bools | None
) -> tuple[RuleStatistics, ...]:
    conditions = evaluated.conditions()
    fires = np.where(evaluated.outcomes < evaluated.compiled.no_rule, evaluated.outcomes, -1)
    names = [rule.name for rule in evaluated.compiled.rule_set.rules]
    trials = []
    for number, rule in enumerate(evaluated.compiled.rule_set.rules):
        values = conditions[rule.name]
        true: Bools = values.fill_null(False).to_numpy(zero_copy_only=False)
        decided = fires == number
        shadows = Counter(fires[true].tolist()) if true.any() and not decided.any() else Counter()
        precision = recall = None
        if truth is not None and labelled is not None:
            wanted: Bools = pc.fill_null(pc.equal(truth, rule.then), False).to_numpy(zero_copy_only=False)
            precision = Proportion.of(int((decided & wanted).sum()), int((decided & labelled).sum()))
            recall = Proportion.of(int((decided & wanted).sum()), int(wanted.sum()))
        trials.append(
            RuleStatistics(
                name=rule.name,
                then=rule.then,
                decides=int(decided.sum()),
                true=int(true.sum()),
                unknown=values.null_count,
                shadowed_by=tuple(names[one] for one, _ in shadows.most_common(_MOST_SHADOWS) if one >= 0),
                precision=precision,
                recall=recall,
            )
        )
    return tuple(trials)
