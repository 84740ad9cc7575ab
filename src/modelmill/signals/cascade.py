"""Signals that a cheap model may answer first: an extra of the contract, for groups whose models have one.

The engine asks such a group for a quick look before it computes anything. What the quick look tells is what
``compute`` would answer; the rest is left open, and computed where the rules still need it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from modelmill.signals.groups import Evaluation, Mask, Rows, SignalGroup, SignalValues


@dataclass(frozen=True, kw_only=True)
class QuickValues(SignalValues):
    """Values of one signal of which some may be open."""

    open: Mask
    """Where a quick look does not tell the value."""


SettledBy = Callable[[Mapping[str, QuickValues]], Mask]
"""Given what a quick look tells, says which rows the rules can decide with that alone, whatever the values
are that are open."""


def nothing_open(told: Mapping[str, QuickValues]) -> Mask:
    """Say which rows have no open value: the rows that can be decided without knowing any rules.

    :param told: by name, at least one.
    :return: a mask.
    """
    settled: Mask = ~np.logical_or.reduce([one.open for one in told.values()])
    return settled


class CascadeEvaluation(Evaluation):
    """The work of a group with cheap models on one chunk of rows."""

    @abstractmethod
    def quick(self, names: Sequence[str], rows: Rows) -> Mapping[str, QuickValues]:
        """Tell what the cheap models are sure of. Asked before ``compute``.

        :param names: signals of the group, none of which was asked for on any of these rows.
        :param rows: at least one row of the chunk.
        :return: the values by name.
        """


class CascadeGroup(SignalGroup):
    """Signals that cheap models answer where they can."""

    settled_by: SettledBy = staticmethod(nothing_open)
    """Which rows a quick look is enough for. The engine sets it: a row is then settled by quick values alone
    or by none of them, so that what it gets depends neither on the plan nor on other rows."""

    @abstractmethod
    def begin(self, chunk: pa.RecordBatch) -> CascadeEvaluation:
        """Begin to work on a chunk."""
