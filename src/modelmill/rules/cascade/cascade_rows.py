"""Rule sets with cheap models first, tried on rows that no model was trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modelmill.rules.cascade.eligible_signals import evaluated, floats, replaced, thresholds, with_probability
from modelmill.rules.cascade.loss_budget import Loss
from modelmill.rules.cascade.threshold_chances import ThresholdChance, fit_chance
from modelmill.rules.evaluation.staged_evaluation import settle_fully
from modelmill.rules.pinned_rule_set import PinnedRuleSet
from modelmill.signals.cascade import QuickValues
from modelmill.signals.groups import Rows
from modelmill.signals.model_cascade import sure_values
from modelmill.signals.model_config import FirstTier, SignalCalibration


class CascadeRows:
    """Rows that no model was trained on, with every signal and every cheap model computed.

    :param pinned: the rule set, its models and the cheap ones.
    :param rows: the rows.
    :param first: name of the cheap model, by signal.
    :param truth: the right decision of each row, null if not known.
    :raises ConfigError: if a signal is not one that a cheap model can stand before.
    """

    def __init__(
        self,
        pinned: PinnedRuleSet,
        rows: pa.RecordBatch,
        first: Mapping[str, str],
        truth: pa.Array | None = None,
    ) -> None:
        known = with_probability(pinned.rule_set, first)
        self.plain = replaced(pinned.rule_set, known)
        """The rule set without cheap models."""
        self.signals = signals = {name: known[name] for name in first}
        pinned = pinned.with_rule_set(self.plain)
        full = pinned.engine(rows.schema).evaluate_fully(rows)
        self._program, self._values, self._outcomes = full.program, full.signals, full.outcomes
        read = {name: one for name, one in signals.items() if name in full.signals}
        self.thresholds = {name: thresholds(full.program, name, one) for name, one in read.items()}
        # The temperature is the model's own; a signal abstains only by what one of the models answers.
        bare = {"calibration": SignalCalibration(), "abstain": None}
        cheap = {name: one.model_copy(update={"model": first[name], **bare}) for name, one in signals.items()}
        asked = evaluated(pinned, cheap, rows).signals
        self.cheap = {name: floats(asked[name]) for name in self.thresholds}
        spoken = {
            name: one.model_copy(update={"abstain": None}) for name, one in signals.items() if one.abstain
        }
        own = evaluated(pinned, spoken, rows).signals if spoken else full.signals
        self._own = {name: floats(own[name]) for name in self.thresholds}
        self._groups = [
            [name for name in full.compiled.base if name in group.signals]
            for group in full.groups
            if not set(self.thresholds).isdisjoint(group.signals)
        ]
        truth = pa.nulls(rows.num_rows, pa.string()) if truth is None else truth
        self._truth = np.array(truth.to_pylist(), object)
        self._labelled = truth.is_valid().to_numpy(zero_copy_only=False)
        self._read = self._needed(rows.num_rows)

    def chances(self, name: str, rows: Rows) -> list[ThresholdChance]:
        """Fit on rows, for each threshold, the chance that the model is above it."""
        cheap, own = self.cheap[name][rows], self._own[name][rows]
        known = ~np.isnan(cheap) & ~np.isnan(own)
        return [fit_chance(one, cheap[known], own[known] >= one) for one in self.thresholds[name]]

    def loss(self, tiers: Mapping[str, FirstTier], rows: Rows) -> Loss:
        """Return what changes on rows if cheap models are asked first."""
        read = rows[self._read[rows]]
        taken = pa.array(read)
        values = {name: one.take(taken) for name, one in self._values.items()}
        saved = np.ones(len(read), np.bool_)
        for names in self._groups:
            told = {name: self._told(name, tiers, values[name], read) for name in names}
            settled = self._program.settled_by(told)
            saved &= settled
            for name, one in told.items():
                values[name] = pc.if_else(pa.array(settled & ~one.open), one.values, values[name])
        after = settle_fully(self._program, values, len(read))
        old, new = self._decisions(self._outcomes[read]), self._decisions(after)
        truth, known = self._truth[read], self._labelled[read]
        was, is_now = old == truth, new == truth
        no_rule = self._program.compiled.no_rule
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
        """Return the rows that a model has to read before which a cheap one may stand."""
        found = np.zeros(rows, np.bool_)
        for names in self._groups:
            known = {
                name: QuickValues(one, open=np.full(rows, name in names))
                for name, one in self._values.items()
            }
            found |= ~self._program.settled_by(known)
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
        return np.array([self._program.compiled.decision(int(one)) for one in kinds], object)[which]
