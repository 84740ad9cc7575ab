"""Values of the signals that are no tables, with the states of the steps over them where these are known."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelmill.rules.evaluation.possible_values import Uncertain
from modelmill.signals.groups import Mask

_NO_VALUE = pa.scalar(None, pa.float64())
"""Value of a step that is looked up: only whether it is open is asked."""


@dataclass(frozen=True)
class LooseValues:
    """Values of the signals that are no tables."""

    pools: Mapping[int, pa.Array]
    """Values that the codes of a signal stand for: those of each row beside each other."""
    joint: tuple[JointStates, ...] | None = None
    """The states of all steps over them; None if these have to be computed."""


@dataclass(frozen=True)
class JointStates:
    """The steps over one group of signals, for every combination of values of every row."""

    ranks: dict[int, npt.NDArray[np.int64]]
    """For each code of each signal, the number of that value among those of its row, from 1 on."""
    counts: dict[int, npt.NDArray[np.int64]]
    """Values of each signal that each row has, and one more for none."""
    begins: npt.NDArray[np.int64]
    """Where the combinations of each row begin."""
    sets: dict[int, npt.NDArray[np.uint8]]
    """State of each condition for each combination."""
    unclear: dict[int, Mask]
    """Whether each other step is open."""

    def look_up(
        self,
        codes: npt.NDArray[np.int32],
        sets: npt.NDArray[np.uint8],
        row: Mapping[int, int],
        states: MutableSequence[Any],
    ) -> None:
        """Set the states of the steps.

        :param codes: the trials.
        :param sets: gets the conditions' states, ``(conditions, trials)``.
        :param row: row of each condition in ``sets``.
        :param states: gets the other steps' states, by number.
        """
        owner, at = np.zeros(len(codes), np.int64), np.zeros(len(codes), np.int64)
        for place, ranks in self.ranks.items():
            np.maximum(owner, codes[:, place] // (len(ranks) // len(self.begins)), out=owner)
        for place, ranks in self.ranks.items():
            own = codes[:, place]
            at = at * self.counts[place][owner] + np.where(own < 0, 0, ranks[own])
        at += self.begins[owner]
        for number, known in self.sets.items():
            sets[row[number]] = known[at]
        for number, open_rows in self.unclear.items():
            states[number] = Uncertain(_NO_VALUE, open_rows[at])
