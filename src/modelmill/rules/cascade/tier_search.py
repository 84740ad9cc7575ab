"""Cheap models first, within a budget: on which side of the rules' thresholds they are taken at their word.

What a decision depends on is the side of each threshold that a signal lies on. So one half of some held-out
rows teaches, for each signal and threshold, how probable it is that the model itself is above it, given what
the cheap model says (J. Platt, *Probabilistic Outputs for Support Vector Machines*, 1999). Two rates, the
same for all signals, make bands of doubt of that: below the first the signal is taken to be below the
threshold, from the second on above. A row whose outcome is settled so needs no other model; all others are
the models' own, whatever the cheap ones say.

On the same half, pairs of rates are ordered by what they lose, those alone that save more than all before
(B. Laufer-Goldshtein et al., *Efficiently Controlling Multiple Risks with Pareto Testing*, 2022, arXiv
2210.07913). The other half tests them in that order until the first whose exact upper bound is above the
budget: a fixed order keeps the confidence of the whole (A. Angelopoulos et al., *Learn then Test*, 2021,
arXiv 2110.01052).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.artifacts import ModelRef
from modelmill.errors import ConfigError
from modelmill.rules.cascade.eligible_signals import evaluated, floats, replaced, thresholds, with_probability
from modelmill.rules.cascade.loss_budget import Budget, Loss
from modelmill.rules.evaluation.staged_evaluation import settle_fully
from modelmill.rules.lifecycle.table_decisions import Deciding, pinned_signals, prepare, rows_of
from modelmill.rules.lifecycle.trial import right_decisions
from modelmill.rules.rule_set import RuleSet
from modelmill.signals.cascade import QuickValues
from modelmill.signals.model_cascade import sure_values
from modelmill.signals.model_config import Doubt, FirstTier, ModelSignal, SignalCalibration
from modelmill.signals.pins import Pin
from modelmill.tables.reading import check_columns

if TYPE_CHECKING:
    from modelmill.component import StepContext
    from modelmill.steps.tier_rules import TierRulesConfig, TierRulesInputs

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

BELOW = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2)
"""Probabilities of being above a threshold below which a signal is taken to be below it."""
ABOVE = (0.3, 0.4, 0.5, 0.7, 0.9, 0.95, 0.99)
"""Those from which on it is taken to be above. With lower ones rules fire mostly where the models do not, and
lose precision (``benchmarks/README.md``)."""


@dataclass(frozen=True)
class Tiers:
    """A rule set with cheap models first."""

    rule_set: RuleSet
    below: float | None
    """Chance of being above a threshold below which a signal is taken to be below it. None: nothing keeps the
    budget with confidence; the rule set is as it was."""
    above: float | None
    """Chance from which on it is taken to be above."""
    changed: float
    """Share of the tested rows with another decision."""
    drop: float | None
    """Right decisions that are lost on the labelled ones of them, or wrong ones by a rule that are new,
    whichever are more: a share. None without labels."""
    bound: float
    """Upper bound on new rows of what the budget is about; at most the budget."""
    saved: float
    """Of the tested rows that the models had to read, the share that they need not read any more."""


def run(config: TierRulesConfig, inputs: TierRulesInputs, context: StepContext) -> ModelRef:
    """Put cheap models before the models of a rule set, and log the rule set that this makes.

    :param config: the step's configuration.
    :param inputs: rows that the models were not trained on, models of earlier steps, and cheap ones.
    :param context: the step's context.
    :return: the logged rule set; the one that was given where nothing keeps the budget.
    :raises RuleSetError: if the rule set breaks a rule; all problems are listed.
    :raises ConfigError: if a cheap model cannot stand before a signal, or is missing, or the budget is about
        accuracy and no label is named.
    :raises TableError: if the label's column is missing.
    :raises DatasetError: if the rows are too few to show that the budget is kept.
    """
    from modelmill.registry.signal_models import read_signals
    from modelmill.rules.lifecycle.registered_rule_sets import log_rule_set, open_rule_set

    if (config.budget_of == "accuracy") != (config.label is not None):
        raise ConfigError(
            "a budget of accuracy is measured by labels, one of decisions without",
            got=f"budget_of: {config.budget_of}, label: {config.label or 'none'}",
            remedy="name the column under label and set budget_of: accuracy, or leave both out",
        )
    students = read_signals(inputs.first) if inputs.first else {}
    first = {**{name: model.uri for name, model in students.items()}, **config.first}
    if not first:
        raise ConfigError(
            "a rule set gets cheap models by the input port first, or under first in the configuration",
            got="none",
            remedy="connect a step signal_students, or name a model for a signal",
        )
    rule_set = open_rule_set(config.rule_set, context.settings)
    known = with_probability(rule_set, first)
    # Looked up together, so that signals:NAME and models:/NAME@ALIAS may stand for cheap models, too.
    anywhere = (Doubt(threshold=0.5, low=0.0, high=1.0),)
    tiers = {
        name: known[name].model_copy(update={"first": FirstTier(model=model, doubts=anywhere)})
        for name, model in first.items()
    }
    models = pinned_signals(inputs.signals, context) if inputs.signals else {}
    rows = rows_of(inputs.table, most=config.rows)
    deciding = prepare(replaced(rule_set, tiers), rows.schema, context.settings, models=models)
    missing = [deciding.pins[name].missing for name in first.values() if deciding.pins[name].missing]
    if missing:
        raise ConfigError("a cheap model must exist", got="; ".join(missing), remedy="name another one")
    truth = None
    if config.label is not None:
        check_columns(rows.schema.names, [config.label], place=str(inputs.table))
        truth = right_decisions(rows.column(config.label), config.decision_of)
    found = learn_tiers(
        deciding.model_copy(update={"rule_set": rule_set}),
        rows,
        first,
        deciding.pins,
        budget=config.budget,
        confidence=config.confidence,
        truth=truth,
    )
    figures = {name: value for name, value in asdict(found).items() if name != "rule_set"}
    context.run.log_dataset(inputs.table, context="tiering", rows=rows.num_rows)
    context.run.log_json({**figures, "rule_set": found.rule_set.canonical()}, "tiers.json")
    context.run.log_metrics({name: value for name, value in figures.items() if value is not None})
    context.log(f"{context.step}: {_said(found, config.budget)}")
    return log_rule_set(found.rule_set, inputs.table, context)


def _said(found: Tiers, budget: float) -> str:
    if found.below is None:
        return f"nothing keeps the budget of {budget:.2%} with confidence: the rule set stays as it is"
    about = "decisions" if found.drop is None else "accuracy"
    lost = "" if found.drop is None else f", at a loss of {100 * found.drop:.2f} points of accuracy"
    return (
        f"cheap models save {found.saved:.1%} of the rows that the models had to read; {found.changed:.2%} "
        f"of all rows change{lost}; at most {100 * found.bound:.2f} points of {about} on new rows"
    )


def learn_tiers(
    deciding: Deciding,
    rows: pa.RecordBatch,
    first: Mapping[str, str],
    pins: Mapping[str, Pin],
    *,
    budget: float = 0.005,
    confidence: float = 0.95,
    truth: pa.Array | None = None,
) -> Tiers:
    """Find the bands of doubt that save the most within a budget.

    :param deciding: the rule set, with its models pinned.
    :param rows: rows that the models were not trained on, in any order.
    :param first: name of the cheap model, by signal.
    :param pins: what the cheap models are, by name.
    :param budget: what may be lost: share of rows whose decision changes, or with ``truth`` accuracy (0.005:
        half a point).
    :param confidence: that new rows keep it.
    :param truth: the decision that each row should have, null where nobody knows: the budget is about
        accuracy then. None: it is about changed decisions.
    :return: the rule set with tiers.
    :raises ConfigError: if a signal is not one that answers with a probability, or the rules do not compare
        it with thresholds alone.
    :raises DatasetError: if the rows are too few to show that the budget is kept.
    """
    limit = Budget(budget, confidence, truth is not None)
    limit.check(rows.num_rows if truth is None else len(truth) - truth.null_count)
    known = with_probability(deciding.rule_set, first)
    held = _Held(deciding, rows, {name: known[name] for name in first}, first, pins, truth)
    order = np.random.default_rng(0).permutation(rows.num_rows)
    learn, test = np.sort(order[::2]), np.sort(order[1::2])
    chances = {name: held.chances(name, learn) for name in held.cheap}
    best = Tiers(held.plain, None, None, 0.0, None, 0.0, 0.0)
    for rates in _in_order(held, chances, learn, limit, first):
        tiers = _bands(chances, rates, first)
        loss = held.loss(tiers, test)
        bound = limit.bound(loss)
        if bound > budget:
            break
        if loss.saved:
            best = Tiers(
                put_first(held.plain, tiers),
                *rates,
                changed=loss.changed / loss.rows,
                drop=loss.estimate(accuracy=True) if limit.accuracy else None,
                bound=bound,
                saved=loss.saved / loss.read,
            )
    return best


def put_first(rule_set: RuleSet, tiers: Mapping[str, FirstTier]) -> RuleSet:
    """Return a rule set with cheap models before some signals."""
    changed = {name: rule_set.signals[name].model_copy(update={"first": one}) for name, one in tiers.items()}
    return rule_set.model_copy(update={"signals": {**rule_set.signals, **changed}})


@dataclass(frozen=True)
class _Chance:
    """How probable it is that a signal is above a threshold: logistic in the cheap model's logit."""

    threshold: float
    slope: float
    offset: float

    def reached(self, rate: float) -> float:
        """Return the cheap probability from which on it is at least so probable; 0 to 1."""
        logit = np.log(rate / (1 - rate)) - self.offset
        if self.slope < _FLATTEST:  # the cheap model says nothing: it is always, or never
            return 0.0 if logit <= 0 else 1.0
        return float(1 / (1 + np.exp(-np.clip(logit / self.slope, -700, 700))))


_FLATTEST = 1e-6


class _Held:
    """Held-out rows, with everything computed that tiers are tried with."""

    def __init__(
        self,
        deciding: Deciding,
        rows: pa.RecordBatch,
        signals: Mapping[str, ModelSignal],
        first: Mapping[str, str],
        pins: Mapping[str, Pin],
        truth: pa.Array | None,
    ) -> None:
        self.plain = replaced(deciding.rule_set, with_probability(deciding.rule_set, first))
        self.signals = signals
        made = deciding.model_copy(
            update={"rule_set": self.plain, "pins": {**pins, **deciding.pins}, "plan": None}
        )
        self._engine = made.engine(rows.schema)
        full = self._engine.evaluate_fully(rows)
        self._values, self._outcomes = full.signals, full.outcomes
        read = {name: one for name, one in signals.items() if name in full.signals}
        self.thresholds = {name: thresholds(full.program, name, one) for name, one in read.items()}
        # The signal's temperature is its own model's, and it abstains only once somebody has answered.
        bare = {"calibration": SignalCalibration(), "abstain": None}
        cheap = {name: one.model_copy(update={"model": first[name], **bare}) for name, one in signals.items()}
        asked = evaluated(deciding, replaced(self.plain, cheap), pins, rows).signals
        self.cheap = {name: floats(asked[name]) for name in self.thresholds}
        spoken = {
            name: one.model_copy(update={"abstain": None}) for name, one in signals.items() if one.abstain
        }
        own = full.signals
        if spoken:
            own = evaluated(deciding, replaced(self.plain, spoken), pins, rows).signals
        self._own = {name: floats(own[name]) for name in self.thresholds}
        self._groups = [
            [name for name in self._engine.compiled.base if name in group.signals]
            for group in self._engine.groups.values()
            if not set(self.thresholds).isdisjoint(group.signals)
        ]
        truth = pa.nulls(rows.num_rows, pa.string()) if truth is None else truth
        self._truth = np.array(truth.to_pylist(), object)
        self._labelled = truth.is_valid().to_numpy(zero_copy_only=False)
        self._read = self._needed(rows.num_rows)

    def chances(self, name: str, rows: Rows) -> list[_Chance]:
        """Learn from rows how the cheap model goes with the model, at each threshold."""
        cheap, own = self.cheap[name][rows], self._own[name][rows]
        known = ~np.isnan(cheap) & ~np.isnan(own)
        return [_chance(one, cheap[known], own[known] >= one) for one in self.thresholds[name]]

    def loss(self, tiers: Mapping[str, FirstTier], rows: Rows) -> Loss:
        """Return what tiers change on rows."""
        read = rows[self._read[rows]]
        taken = pa.array(read)
        values = {name: one.take(taken) for name, one in self._values.items()}
        saved = np.ones(len(read), np.bool_)
        for names in self._groups:
            told = {name: self._told(name, tiers, values[name], read) for name in names}
            settled = self._engine.program.settled_by(told)
            saved &= settled
            for name, one in told.items():
                values[name] = pc.if_else(pa.array(settled & ~one.open), one.values, values[name])
        after = settle_fully(self._engine.program, values, len(read))
        old, new = self._decisions(self._outcomes[read]), self._decisions(after)
        truth, known = self._truth[read], self._labelled[read]
        was, is_now = old == truth, new == truth
        no_rule = self._engine.compiled.no_rule
        wrong_before, wrong = ~was & (self._outcomes[read] < no_rule), ~is_now & (after < no_rule)
        return Loss(
            rows=len(rows),
            changed=int((old != new).sum()),
            labelled=int(self._labelled[rows].sum()),
            losses=int((known & was & ~is_now).sum()),
            gains=int((known & is_now & ~was).sum()),
            wronged=int((known & wrong & ~wrong_before).sum()),
            mended=int((known & wrong_before & ~wrong).sum()),
            read=len(read),
            saved=int(saved.sum()),
        )

    def _needed(self, rows: int) -> npt.NDArray[np.bool_]:
        """Return which rows a model has to read that a cheap one may stand before."""
        found = np.zeros(rows, np.bool_)
        for names in self._groups:
            known = {
                name: QuickValues(one, open=np.full(rows, name in names))
                for name, one in self._values.items()
            }
            found |= ~self._engine.program.settled_by(known)
        return found

    def _told(self, name: str, tiers: Mapping[str, FirstTier], full: pa.Array, rows: Rows) -> QuickValues:
        if name not in tiers:
            return QuickValues(full, open=np.ones(len(rows), np.bool_))
        cheap, band = self.cheap[name][rows], self.signals[name].abstain
        value = sure_values(tiers[name], cheap)
        unclear = np.isnan(value) & ~np.isnan(cheap)
        if band is not None:
            value = np.where((value >= band.low) & (value < band.high), np.nan, value)
        return QuickValues(pa.array(value, from_pandas=True), open=unclear)

    def _decisions(self, outcomes: npt.NDArray[np.int32]) -> npt.NDArray[np.object_]:
        kinds, which = np.unique(outcomes, return_inverse=True)
        return np.array([self._engine.compiled.decision(int(one)) for one in kinds], object)[which]


def _in_order(
    held: _Held,
    chances: Mapping[str, Sequence[_Chance]],
    rows: Rows,
    budget: Budget,
    first: Mapping[str, str],
) -> Iterator[tuple[float, float]]:
    """Yield pairs of rates, by what they lose: those that save more than all before."""
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
    chances: Mapping[str, Sequence[_Chance]], rates: tuple[float, float], first: Mapping[str, str]
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


def _chance(threshold: float, cheap: Floats, above: npt.NDArray[np.bool_]) -> _Chance:
    """Fit how probable it is to be above a threshold, with Platt's targets: no rate is ever 0 or 1."""
    from scipy.optimize import minimize

    count, hits = len(above), int(above.sum())
    targets = np.where(above, (hits + 1) / (hits + 2), 1 / (count - hits + 2))
    rate = (hits + 1) / (count + 2)
    level = float(np.log(rate / (1 - rate)))
    logits = _logit(cheap)
    if not 0 < hits < count:
        return _Chance(threshold, 0.0, level)

    def loss(weights: Floats) -> tuple[float, Floats]:
        z = weights[0] * logits + weights[1]
        error = 1 / (1 + np.exp(-z)) - targets
        value = float((np.logaddexp(0, z) - targets * z).mean())
        return value, np.array([(error * logits).mean(), error.mean()])

    found = minimize(loss, np.array([0.0, level]), jac=True, bounds=[(0, None), (None, None)]).x
    slope = float(found[0])
    return _Chance(threshold, slope, float(found[1]) if slope >= _FLATTEST else level)


def _logit(probability: Floats) -> Floats:
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    found: Floats = np.log(inside) - np.log1p(-inside)
    return found
