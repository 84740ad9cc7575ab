"""A compiled rule set that is evaluated on rows of which only some signals are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.evaluation import possible_values as possible
from modelmill.rules.evaluation.compiled_rule_set import OPEN, CompiledRuleSet
from modelmill.rules.evaluation.partial_evaluation import Analysis, Partial, column_state
from modelmill.rules.evaluation.possible_values import FALSE, NULL, TRUE
from modelmill.signals.cascade import QuickValues
from modelmill.signals.groups import Mask

Outcomes = npt.NDArray[np.int32]
"""An outcome for each row, see :data:`~modelmill.rules.evaluation.compiled_rule_set.OPEN`."""


class RuleProgram:
    """A compiled rule set, ready to settle rows."""

    def __init__(self, compiled: CompiledRuleSet) -> None:
        self.compiled = compiled
        self.truth_only = compiled.rule_set.on_unknown is None
        """Whether a condition that is NULL is like one that is false."""
        self.analysis = Analysis(compiled.steps, compiled.roots, truth_only=self.truth_only)

    def begin(self, rows: int) -> Partial:
        """Return the state of some rows of which no signal is known."""
        return Partial(self.analysis, rows)

    def state_of(
        self, name: str, values: pa.Array, rows: Any, count: int, *, unclear: Mask | bool = False
    ) -> possible.State:
        """Return the state of a signal that is known on some rows.

        :param name: the signal.
        :param values: its values on ``rows``, of the Arrow type of its kind.
        :param rows: numbers of the rows, ascending.
        :param count: number of all rows.
        :param unclear: where the value is not known in spite of being among ``values``.
        :return: its state on all rows.
        """
        step = self.analysis.steps[self.analysis.columns[name]]
        if unclear is not False:
            told = np.logical_not(unclear)
            rows, values = np.asarray(rows)[told], values.filter(pa.array(told))
        return column_state(values, step, rows, count)

    def settled_by(self, told: Mapping[str, QuickValues]) -> Mask:
        """See :data:`modelmill.signals.cascade.SettledBy`."""
        rows = len(next(iter(told.values())).values)
        every, partial = np.arange(rows), self.begin(rows)
        known = {name: one for name, one in told.items() if name in self.analysis.columns}
        partial.set(
            {
                name: self.state_of(name, one.values, every, rows, unclear=one.open)
                for name, one in known.items()
            }
        )
        _, asked = self.outcomes(partial)
        demand = partial.demand(asked) if asked else {}
        more = np.zeros(rows, np.bool_)
        for name, one in known.items():
            if name in demand:
                more |= demand[name] & one.open
        return ~more

    def outcomes(self, partial: Partial) -> tuple[Outcomes, dict[int, Mask]]:
        """Return which rows are settled, and which conditions still matter on the others.

        :param partial: state of the rows.
        :return: the outcome of each row (``OPEN`` if it is not settled), and for each condition that still
            matters somewhere, by the number of its step, a mask of the rows where it does.
        """
        rows = partial.rows
        found = np.full(rows, OPEN, np.int32)
        asked: dict[int, Any] = {}
        goes_on = FALSE | NULL if self.truth_only else FALSE
        stops = TRUE if self.truth_only else TRUE | NULL
        reached = np.ones(rows, np.bool_)  # no earlier rule is sure to stop the row
        clear = np.ones(rows, np.bool_)  # no earlier rule may stop the row
        for number, root in enumerate(self.analysis.roots):
            state = partial.states[root]
            at: Any = slice(None)  # the rows that the rule may stop: few, if it is one of a thousand
            if isinstance(state, np.ndarray):
                at = np.flatnonzero(state & stops)
                state = state[at]
            if not np.any(state & stops):
                continue
            unclear = self.analysis.undetermined(root, state)
            if np.any(unclear):
                asked.setdefault(root, np.zeros(rows, np.bool_))[at] |= reached[at] & unclear
            settled = clear[at] & np.logical_not(unclear)
            outcomes = found[at]
            outcomes[settled & (state == TRUE)] = number
            if not self.truth_only:
                outcomes[settled & (state == NULL)] = self.compiled.no_rule + 1 + number
            found[at] = outcomes
            clear[at] = False
            reached[at] &= possible.has(state, goes_on)
            if not reached.any():
                break
        found[clear & reached] = self.compiled.no_rule
        return found, asked
