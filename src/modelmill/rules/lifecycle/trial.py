"""Trying a rule set on rows before it is used: what each rule does, and what differs from another rule set.

Here every signal is computed on every row: a rule that never decides because an earlier one does is only
seen where its condition is evaluated all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from modelmill.evaluation.statistics import Proportion
from modelmill.rules.evaluation.full_evaluation import FullEvaluation

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_MOST_SHADOWS = 5
"""Rules that are named as standing before a shadowed one."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RuleTrial(_Frozen):
    """What one rule does on some rows."""

    name: str
    then: str
    decides: int
    """Rows that it decides."""
    true: int
    """Rows on which its condition is true, whatever the rules before it say."""
    unknown: int
    """Rows on which its condition is NULL."""
    shadowed_by: tuple[str, ...] = ()
    """Where it is true somewhere and decides nothing: the rules that do, the most frequent first."""
    precision: Proportion | None = None
    """Rows whose right decision is the rule's, among the labelled rows that it decides."""
    recall: Proportion | None = None
    """Rows that it decides, among the labelled rows whose right decision is the rule's."""

    @property
    def dead(self) -> bool:
        """Whether its condition is true on no row."""
        return self.true == 0

    @property
    def shadowed(self) -> bool:
        """Whether rules before it take every row that it would decide."""
        return self.true > 0 and self.decides == 0


class RuleSetTrial(_Frozen):
    """What a rule set does on some rows."""

    rule_set: str
    rows: int
    decisions: dict[str, int]
    """Rows by decision."""
    default: int
    """Rows on which no rule fires."""
    unknown: int
    """Rows that are decided by ``on_unknown``."""
    rules: tuple[RuleTrial, ...]
    labelled: int = 0
    """Rows whose right decision is known."""
    accuracy: Proportion | None = None
    """Right decisions among those."""


def right_decisions(labels: pa.Array, decision_of: Mapping[str, str]) -> pa.Array:
    """Return the decision that each row should have.

    :param labels: of any simple type; null where nobody knows.
    :param decision_of: decision by label; a label that is not among them stands for itself.
    :return: strings.
    """
    values = labels.cast(pa.string()).to_pylist()
    return pa.array([None if one is None else decision_of.get(one, one) for one in values], pa.string())


def try_rules(evaluated: FullEvaluation, truth: pa.Array | None = None) -> RuleSetTrial:
    """Say what a rule set does on rows.

    :param evaluated: the rule set on the rows.
    :param truth: the decision that each row should have, null where nobody knows; None: not known at all.
    :return: the trial.
    """
    compiled, outcomes = evaluated.compiled, evaluated.outcomes
    decisions = evaluated.decisions()
    right = _right(decisions, truth)
    labelled = None if truth is None else truth.is_valid().to_numpy(zero_copy_only=False)
    rules = _rule_trials(evaluated, truth, labelled)
    counts = Counter(decisions.to_pylist())
    return RuleSetTrial(
        rule_set=f"{compiled.rule_set.rule_set}@{evaluated.compiled.digest[:12]}",
        rows=len(outcomes),
        decisions=dict(sorted(counts.items())),
        default=int((outcomes == compiled.no_rule).sum()),
        unknown=int((outcomes > compiled.no_rule).sum()),
        rules=rules,
        labelled=0 if labelled is None else int(labelled.sum()),
        accuracy=None
        if right is None or labelled is None
        else Proportion.of(int(right.sum()), int(labelled.sum())),
    )


def _right(decisions: pa.Array, truth: pa.Array | None) -> Bools | None:
    if truth is None:
        return None
    found: Bools = pc.fill_null(pc.equal(decisions, truth), False).to_numpy(zero_copy_only=False)
    return found


def _rule_trials(
    evaluated: FullEvaluation, truth: pa.Array | None, labelled: Bools | None
) -> tuple[RuleTrial, ...]:
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
            RuleTrial(
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


class DecisionChange(_Frozen):
    """Rows on which two rule sets decide otherwise, in the same way."""

    before: str
    after: str
    rule_before: str | None
    """The rule that decides; None where none fires."""
    rule_after: str | None
    rows: int
    examples: tuple[str, ...]
    """Keys of some of them, the first ones of the table."""


class SliceChange(_Frozen):
    """How often two rule sets differ on the rows with one value of a column."""

    column: str
    value: str | None
    rows: int
    changed: int


class RuleSetDiff(_Frozen):
    """What differs between two rule sets on the same rows."""

    before: str
    after: str
    rows: int
    changed: int
    """Rows with another decision."""
    other_rule: int
    """Rows with the same decision by another rule."""
    changes: tuple[DecisionChange, ...]
    """The most frequent first."""
    slices: tuple[SliceChange, ...]
    """The largest share of changed rows first."""
    better: int = 0
    """Labelled rows that only the rule set after decides rightly."""
    worse: int = 0
    """Labelled rows that only the rule set before decides rightly."""


def compare(
    before: FullEvaluation,
    after: FullEvaluation,
    *,
    slices: Sequence[str] = (),
    examples: int = 5,
    truth: pa.Array | None = None,
) -> RuleSetDiff:
    """Compare two rule sets on the same rows.

    :param before: the one in use.
    :param after: the one that is proposed.
    :param slices: columns whose values cut the rows.
    :param examples: keys to name for each change.
    :param truth: see :func:`try_rules`.
    :return: the difference.
    """
    sides = [(one.decisions(), one.deciding_rules()) for one in (before, after)]
    (old, old_rule), (new, new_rule) = sides
    changed = _differs(old, new)
    right = [_right(one, truth) for one in (old, new)]
    keys = after.rows.column(after.compiled.rule_set.key)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row in np.flatnonzero(changed).tolist():
        named = tuple(one[row].as_py() for one in (old, new, old_rule, new_rule))
        groups.setdefault(named, []).append(row)
    changes = [
        DecisionChange(
            before=one[0],
            after=one[1],
            rule_before=one[2],
            rule_after=one[3],
            rows=len(rows),
            examples=tuple(str(keys[row].as_py()) for row in rows[:examples]),
        )
        for one, rows in groups.items()
    ]
    wins = (
        [0, 0]
        if right[0] is None or right[1] is None
        else [
            int((right[1] & ~right[0]).sum()),
            int((right[0] & ~right[1]).sum()),
        ]
    )
    return RuleSetDiff(
        before=f"{before.compiled.rule_set.rule_set}@{before.compiled.digest[:12]}",
        after=f"{after.compiled.rule_set.rule_set}@{after.compiled.digest[:12]}",
        rows=len(changed),
        changed=int(changed.sum()),
        other_rule=int((~changed & _differs(old_rule, new_rule)).sum()),
        changes=tuple(sorted(changes, key=lambda one: (-one.rows, one.before, one.after))),
        slices=_slices(after.rows, slices, changed),
        better=wins[0],
        worse=wins[1],
    )


def _differs(one: pa.Array, other: pa.Array) -> Bools:
    names = pa.array([""], pa.string())[0]
    found: Bools = pc.not_equal(pc.fill_null(one, names), pc.fill_null(other, names)).to_numpy(
        zero_copy_only=False
    )
    return found


def _slices(rows: pa.RecordBatch, columns: Sequence[str], changed: Bools) -> tuple[SliceChange, ...]:
    found = []
    for column in columns:
        encoded = rows.column(column).cast(pa.string()).dictionary_encode(null_encoding="encode")
        places = encoded.indices.to_numpy()
        size = len(encoded.dictionary)
        total = np.bincount(places, minlength=size)
        differ = np.bincount(places[changed], minlength=size)
        for value, count, different in zip(encoded.dictionary.to_pylist(), total, differ, strict=True):
            found.append(SliceChange(column=column, value=value, rows=int(count), changed=int(different)))
    return tuple(sorted(found, key=lambda one: (-one.changed / max(one.rows, 1), one.column, str(one.value))))
