"""Cheap models first, within a budget: from which probability on a cheap model is taken at its word.

All signals share one margin *m*: a cheap model is sure below *m* and from 1 - *m* on. Margins are tried from
the smallest; each is accepted if the exact upper bound of the share of rows with another decision is within
the budget, and the first that is not ends the search. Testing in a fixed order keeps the confidence of the
whole (A. Angelopoulos et al., *Learn then Test*, 2021, arXiv 2110.01052, fixed sequence testing). The budget
is about decisions: what one signal loses, another may hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.artifacts import ModelRef
from modelmill.errors import ConfigError, DatasetError, did_you_mean
from modelmill.rules.deciding import Deciding, pinned_signals, prepare, rows_of
from modelmill.rules.rule_set import Band, Calibration, FirstTier, ModelSignal, RuleSet
from modelmill.rules.staged import settle_fully
from modelmill.rules.thresholds import upper_bound
from modelmill.rules.trying import Evaluated
from modelmill.signals.pins import Pin

if TYPE_CHECKING:
    from modelmill.pipeline.component import StepContext
    from modelmill.rules.components import TierRulesConfig, TrialInputs

Floats = npt.NDArray[np.float64]

MARGINS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)


@dataclass(frozen=True)
class Tiers:
    """A rule set with cheap models first."""

    rule_set: RuleSet
    margin: float | None
    """None: no margin keeps the budget with confidence on so few rows; the rule set is as it was."""
    changed: float
    """Share of rows with another decision, on the rows at hand."""
    bound: float
    """Upper bound of that share on new rows; at most the budget."""
    saved: float
    """Share of rows that the models themselves need not read, on the rows at hand."""


def run(config: TierRulesConfig, inputs: TrialInputs, context: StepContext) -> ModelRef:
    """Put cheap models before the models of a rule set, and log the rule set that this makes.

    :param config: the step's configuration.
    :param inputs: rows that the models were not trained on, and models of earlier steps.
    :param context: the step's context.
    :return: the logged rule set; the one that was given where no margin keeps the budget.
    :raises RuleSetError: if the rule set breaks a rule; all problems are listed.
    :raises ConfigError: if a signal is not one that answers with a probability, or a model is missing.
    :raises DatasetError: if the table has no rows.
    """
    from modelmill.rules.registered import log_rule_set, open_rule_set

    rule_set = open_rule_set(config.rule_set, context.settings)
    known = _with_probability(rule_set, config.first)
    # Looked up together, so that signals:NAME and models:/NAME@ALIAS may stand for cheap models, too.
    anywhere = Band(low=0.0, high=1.0)
    tiers = {
        name: known[name].model_copy(update={"first": FirstTier(model=model, unsure=anywhere)})
        for name, model in config.first.items()
    }
    models = pinned_signals(inputs.signals, context) if inputs.signals else {}
    rows = rows_of(inputs.table, most=config.rows)
    deciding = prepare(_with(rule_set, tiers), rows.schema, context.settings, models=models)
    missing = [deciding.pins[name].missing for name in config.first.values() if deciding.pins[name].missing]
    if missing:
        raise ConfigError("a cheap model must exist", got="; ".join(missing), remedy="name another one")
    found = learn_tiers(
        deciding.model_copy(update={"rule_set": rule_set}),
        rows,
        config.first,
        deciding.pins,
        budget=config.budget,
        confidence=config.confidence,
    )
    figures = {name: value for name, value in asdict(found).items() if name != "rule_set"}
    context.run.log_dataset(inputs.table, context="tiering", rows=rows.num_rows)
    context.run.log_json({**figures, "rule_set": found.rule_set.canonical()}, "tiers.json")
    context.run.log_metrics({name: value for name, value in figures.items() if value is not None})
    if found.margin is None:
        said = f"no margin keeps the budget of {config.budget:.2%} on {rows.num_rows:,} rows: nothing changes"
    else:
        said = (
            f"cheap models are sure below {found.margin:g} and from {1 - found.margin:g}: of "
            f"{rows.num_rows:,} rows {found.changed:.2%} change, at most {found.bound:.2%} of new ones; "
            f"{found.saved:.1%} need no other model"
        )
    context.log(f"{context.step}: {said}")
    return log_rule_set(found.rule_set, inputs.table, context)


def _with_probability(rule_set: RuleSet, first: Mapping[str, str]) -> dict[str, ModelSignal]:
    """Return the signals that a cheap model can stand before; refuse others."""
    known = {
        name: one
        for name, one in rule_set.signals.items()
        if isinstance(one, ModelSignal) and one.output == "probability"
    }
    for name in first:
        if name not in known:
            raise ConfigError(
                "a cheap model stands before a model signal that answers with a probability",
                got=name,
                remedy=did_you_mean(name, known),
            )
    return known


def learn_tiers(
    deciding: Deciding,
    rows: pa.RecordBatch,
    first: Mapping[str, str],
    pins: Mapping[str, Pin],
    *,
    budget: float = 0.005,
    confidence: float = 0.95,
) -> Tiers:
    """Find the largest margin that keeps a budget.

    :param deciding: the rule set, with its models pinned.
    :param rows: rows that the models were not trained on; at budget 0.005 and confidence 0.95 at least 598.
    :param first: name of the cheap model, by signal.
    :param pins: what the cheap models are, by name.
    :param budget: accepted share of rows whose decision changes.
    :param confidence: of that, for new rows.
    :return: the rule set with tiers.
    :raises ConfigError: if a signal is not one that answers with a probability.
    :raises DatasetError: if there are no rows.
    """
    if not rows.num_rows:
        raise DatasetError("tiers are learnt on rows", remedy="hand over some")
    rule_set = deciding.rule_set
    known = _with_probability(rule_set, first)
    plain = {name: one.model_copy(update={"first": None}) for name, one in known.items()}
    whole = _with(rule_set, plain)
    full = _evaluated(deciding, whole, pins, rows)
    # The signal's temperature is its own model's, and it abstains only once somebody has answered.
    bare = {"calibration": Calibration(), "abstain": None}
    cheap_signals = {name: plain[name].model_copy(update={"model": first[name], **bare}) for name in first}
    cheap = _evaluated(deciding, _with(whole, cheap_signals), pins, rows)
    asked = {name: _floats(cheap.signals[name]) for name in first if name in cheap.signals}
    own = {name: _floats(full.signals[name]) for name in asked}
    decided = full.decisions()
    best = Tiers(whole, None, 0.0, 0.0, 0.0)
    for margin in MARGINS:
        sure = {name: (p < margin) | (p >= 1 - margin) for name, p in asked.items()}
        mixed = {
            name: np.where(sure[name], _abstained(plain[name].abstain, asked[name]), own[name])
            for name in asked
        }
        values = {
            **full.signals,
            **{name: pa.array(p, pa.float64(), from_pandas=True) for name, p in mixed.items()},
        }
        outcomes = settle_fully(full.engine.program, values, rows.num_rows)
        names = {int(one): full.engine.compiled.decision(int(one)) for one in np.unique(outcomes)}
        changed = sum(
            names[int(one)] != other for one, other in zip(outcomes, decided.to_pylist(), strict=True)
        )
        bound = upper_bound(changed, rows.num_rows, doubt=1 - confidence)
        if bound > budget:
            break
        saved = float(np.logical_and.reduce(list(sure.values())).mean()) if sure else 0.0
        if not saved:
            continue
        tiers = {
            name: known[name].model_copy(
                update={"first": FirstTier(model=first[name], unsure=Band(low=margin, high=1 - margin))}
            )
            for name in asked
        }
        best = Tiers(_with(rule_set, tiers), margin, changed / rows.num_rows, bound, saved)
    return best


def _with(rule_set: RuleSet, signals: Mapping[str, ModelSignal]) -> RuleSet:
    return rule_set.model_copy(update={"signals": {**rule_set.signals, **signals}})


def _evaluated(
    deciding: Deciding, rule_set: RuleSet, pins: Mapping[str, Pin], rows: pa.RecordBatch
) -> Evaluated:
    made = deciding.model_copy(update={"rule_set": rule_set, "pins": {**pins, **deciding.pins}, "plan": None})
    return Evaluated(made.engine(rows.schema), rows)


def _floats(values: pa.Array) -> Floats:
    found: Floats = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return found


def _abstained(band: Band | None, probability: Floats) -> Floats:
    if band is None:
        return probability
    return np.where((probability >= band.low) & (probability < band.high), np.nan, probability)
