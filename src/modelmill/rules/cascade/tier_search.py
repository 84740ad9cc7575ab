"""Cheap models first, within a budget: where the rules can rely on a cheap model instead of the model itself.

A decision depends only on the side of each threshold of the rules on which a signal lies. One half of some
held-out rows teaches, for each signal and threshold, how probable it is that the model itself is above it,
given what the cheap model says (:mod:`.threshold_chances`). Two rates, the same for all signals, turn these
chances into bands of doubt: below the first rate the signal is taken to be below the threshold, from the
second on above it. A row whose outcome is settled this way needs no other model; all other rows are answered
by the models alone, whatever the cheap ones say.

On the same half, pairs of rates are ordered by their losses, and only those are kept that save more than all
pairs before (B. Laufer-Goldshtein et al., *Efficiently Controlling Multiple Risks with Pareto Testing*, 2022,
arXiv 2210.07913). The other half tests them in that order, up to the first whose exact upper bound is above
the budget: the fixed order keeps the confidence of the whole (A. Angelopoulos et al., *Learn then Test*,
2021, arXiv 2110.01052).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from modelmill.errors import ConfigError
from modelmill.rules.cascade.cascade_rows import CascadeRows
from modelmill.rules.cascade.eligible_signals import replaced, with_probability
from modelmill.rules.cascade.loss_budget import LossBudget
from modelmill.rules.cascade.threshold_chances import ThresholdChance
from modelmill.rules.pinned_rule_set import PinnedRuleSet, pin_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings
from modelmill.signals.groups import Rows
from modelmill.signals.model_config import Doubt, FirstTier
from modelmill.signals.pinned_models import PinnedModel

BELOW = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2)
"""Chances of being above a threshold below which a signal is taken to be below it."""
ABOVE = (0.3, 0.4, 0.5, 0.7, 0.9, 0.95, 0.99)
"""Chances from which on it is taken to be above. With lower ones rules fire mostly where the models do not,
and lose precision (``benchmarks/README.md``)."""


@dataclass(frozen=True)
class Tiers:
    """A rule set with cheap models first."""

    rule_set: RuleSet
    below: float | None
    """Chance of being above a threshold below which a signal is taken to be below it. None: no pair of rates
    keeps the budget with confidence, and the rule set is as it was."""
    above: float | None
    """Chance from which on it is taken to be above."""
    changed: float
    """Share of the tested rows with another decision."""
    drop: float | None
    """Share of the labelled ones of them whose right decision is lost, or that a rule newly decides wrongly,
    whichever is more. None without labels."""
    bound: float
    """Upper bound of the loss on new rows; at most the budget."""
    saved: float
    """Share of the tested rows read by the models before that they need not read any more."""


def pin_first(
    rule_set: RuleSet,
    first: Mapping[str, str],
    settings: Settings,
    *,
    models: Mapping[str, PinnedModel] | None = None,
) -> PinnedRuleSet:
    """Look up the models of a rule set and the cheap ones.

    :param rule_set: the rule set.
    :param first: name of the cheap model, by signal.
    :param settings: where MLflow and the caches are.
    :param models: models of an earlier step, see :func:`~modelmill.rules.pinned_rule_set.pin_rule_set`.
    :return: the rule set, as it was, with all these models.
    :raises ConfigError: if a cheap model is missing, or cannot stand before its signal.
    """
    known = with_probability(rule_set, first)
    # As first tiers they are found like the other models of a rule set, under signals:NAME too.
    anywhere = (Doubt(threshold=0.5, low=0.0, high=1.0),)
    tiers = {
        name: known[name].model_copy(update={"first": FirstTier(model=model, doubts=anywhere)})
        for name, model in first.items()
    }
    pinned = pin_rule_set(replaced(rule_set, tiers), settings, models=models)
    missing = [pinned.pins[name].missing for name in first.values() if pinned.pins[name].missing]
    if missing:
        raise ConfigError("a cheap model must exist", got="; ".join(missing), remedy="name another one")
    return pinned.with_rule_set(rule_set)


def learn_tiers(
    pinned: PinnedRuleSet,
    rows: pa.RecordBatch,
    first: Mapping[str, str],
    budget: LossBudget,
    *,
    truth: pa.Array | None = None,
) -> Tiers:
    """Find the bands of doubt that save the most within a budget.

    :param pinned: the rule set, its models and the cheap ones, see :func:`pin_first`.
    :param rows: rows that the models were not trained on, in any order.
    :param first: name of the cheap model, by signal.
    :param budget: what may be lost.
    :param truth: the right decision of each row, null if not known; needed for a budget of accuracy.
    :return: the rule set with tiers.
    :raises ConfigError: if a signal is not one that answers with a probability, or the rules do not compare
        it with thresholds alone.
    :raises DatasetError: if the rows are too few to show that the budget is kept.
    """
    budget.check(rows.num_rows if truth is None else len(truth) - truth.null_count)
    held = CascadeRows(pinned, rows, first, truth)
    order = np.random.default_rng(0).permutation(rows.num_rows)
    learn, test = np.sort(order[::2]), np.sort(order[1::2])
    chances = {name: held.chances(name, learn) for name in held.cheap}
    best = Tiers(held.plain, None, None, 0.0, None, 0.0, 0.0)
    for rates in _in_order(held, chances, learn, budget, first):
        tiers = _bands(chances, rates, first)
        loss = held.loss(tiers, test)
        bound = budget.bound(loss)
        if bound > budget.most:
            break
        if loss.saved:
            best = Tiers(
                put_first(held.plain, tiers),
                *rates,
                changed=loss.changed / loss.rows,
                drop=loss.estimate(accuracy=True) if budget.accuracy else None,
                bound=bound,
                saved=loss.saved / loss.read,
            )
    return best


def put_first(rule_set: RuleSet, tiers: Mapping[str, FirstTier]) -> RuleSet:
    """Return a rule set with cheap models before some signals."""
    changed = {name: rule_set.signals[name].model_copy(update={"first": one}) for name, one in tiers.items()}
    return rule_set.model_copy(update={"signals": {**rule_set.signals, **changed}})


def _in_order(
    held: CascadeRows,
    chances: Mapping[str, Sequence[ThresholdChance]],
    rows: Rows,
    budget: LossBudget,
    first: Mapping[str, str],
) -> Iterator[tuple[float, float]]:
    """Yield pairs of rates in the order of their losses, leaving out those that do not save more."""
    found = []
    for rates in itertools.product(BELOW, ABOVE):
        if rates[0] <= rates[1]:
            loss = held.loss(_bands(chances, rates, first), rows)
            found.append((loss.estimate(accuracy=budget.accuracy), -loss.saved, rates))
    most = 0
    for _, saved, rates in sorted(found):
        if -saved > most:
            most = -saved
            yield rates


def _bands(
    chances: Mapping[str, Sequence[ThresholdChance]], rates: tuple[float, float], first: Mapping[str, str]
) -> dict[str, FirstTier]:
    below, above = rates
    return {
        name: FirstTier(
            model=first[name],
            doubts=tuple(
                Doubt(threshold=one.threshold, low=one.reached(below), high=one.reached(above))
                for one in several
            ),
        )
        for name, several in chances.items()
    }


def tier_sentence(found: Tiers, budget: LossBudget) -> str:
    """Return what tiers save and lose, as a sentence."""
    if found.below is None:
        return f"nothing keeps the budget of {budget.most:.2%} with confidence: the rule set stays as it is"
    about = "decisions" if found.drop is None else "accuracy"
    lost = "" if found.drop is None else f", at a loss of {100 * found.drop:.2f} points of accuracy"
    return (
        f"cheap models save {found.saved:.1%} of the rows that the models had to read; {found.changed:.2%} "
        f"of all rows change{lost}; at most {100 * found.bound:.2f} points of {about} on new rows"
    )
