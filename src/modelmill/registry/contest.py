"""What a gate judges: a challenger and the models that it is compared with, on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.evaluation.logits import Logits
from modelmill.evaluation.rows import JudgedRows
from modelmill.models.bundle import BundleInfo
from modelmill.registry.metric_comparisons import Answered, Statistics
from modelmill.settings import Settings
from modelmill.tasks.base import Answers
from modelmill.tasks.examples import in_split

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Contestant:
    """A model, and its answers to the test rows."""

    name: str
    """``challenger``, ``champion``, ``parent``, ``start of the chain`` or ``version 3``."""
    model: ModelRef
    folder: Path
    """Its bundle."""
    info: BundleInfo
    logits: Logits
    """For the labelled test rows, ``(rows, outputs)``, classes as in ``info``."""
    rows: JudgedRows

    @cached_property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Whether the logits of a row are numbers, neither NaN nor infinite, ``(rows,)``."""
        return np.asarray(np.isfinite(self.logits).all(axis=1))

    @cached_property
    def confidence(self) -> npt.NDArray[np.float64]:
        """The probability of the answer that is given, ``(rows,)``; 1 where the logits are not numbers."""
        with np.errstate(invalid="ignore"):
            found = np.asarray(self.info.answers(self.logits)[1], dtype=np.float64)
        return np.where(self.scored, found, 1.0)

    @cached_property
    def answers(self) -> Answers:
        """Answer to each test row; a row whose logits are not numbers has no answer, and is never right."""
        return self.rows.task.decide(
            self.logits,
            known=self.info.classes,
            classes=self.rows.classes,
            calibration=self.info.calibration,
            scored=self.scored,
        )


@dataclass(frozen=True)
class Contest:
    """All that a check can look at."""

    name: str
    """The registered model that the challenger is proposed for."""
    dataset: DatasetRef
    rows: JudgedRows
    """The labelled test rows that no model of the contest has learnt from."""
    left_out: int
    """Labelled test rows that are left out because one has."""
    challenger: Contestant
    champion: Contestant | None
    """None if there is none yet."""
    parent: Contestant | None
    """The model that the challenger was made from; None if it was made from none."""
    chain: tuple[Contestant, ...]
    """The models that the challenger was made from, step by step, and itself as the last one."""
    approved: Contestant | None
    """The last champion that a person approved, or the first one; None if there is none yet."""
    how: Statistics
    settings: Settings
    log: Callable[[str], None]

    @property
    def label(self) -> str:
        """The label column."""
        return self.rows.label

    @property
    def texts(self) -> Sequence[Any]:
        """Text of each row, or the file of its image."""
        return self.rows.texts

    @property
    def truth(self) -> Answers:
        """Label of each row, in the form of the answers."""
        return self.rows.truth

    @property
    def reference(self) -> Contestant | None:
        """The champion; the parent if there is no champion yet: what size and speed are compared with."""
        return self.champion or self.parent

    @property
    def start(self) -> Contestant | None:
        """The model that the chain starts with; None if that is the challenger."""
        return self.chain[0] if len(self.chain) > 1 else None

    @property
    def yardstick(self) -> Contestant | None:
        """The champion; the start of the chain without one: what answers are compared with."""
        return self.champion or self.start

    def test_rows(self, table: pa.Table) -> pa.Table:
        """Return the judged rows of the dataset's table.

        :param table: all its rows, in their order, with the split column.
        :return: its test rows that are judged.
        """
        import pyarrow as pa

        split = table.filter(pa.array(in_split(table, self.dataset, "test")))
        return split.filter(pa.array(self.rows.rows.labelled))

    def against(self, other: Contestant) -> Answered:
        """Return the rows with the answers of the challenger and of another model."""
        return Answered(self.truth, other.answers, self.challenger.answers)
