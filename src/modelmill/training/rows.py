"""Labelled rows as token ids and targets: what a training loop and an evaluation read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from modelmill.datasets.options import LabelKind
from modelmill.models.classifier import all_logits
from modelmill.models.trainable import TrainableModel
from modelmill.tasks.base import Measures, Task
from modelmill.tasks.examples import Rows
from modelmill.tasks.kinds import task_of
from modelmill.tokens.token_ids import Tokens


@dataclass(frozen=True)
class EncodedRows:
    """Rows that are ready for the model."""

    tokens: Tokens
    """Ids of each row."""
    targets: npt.NDArray[Any]
    """As in :class:`~modelmill.tasks.examples.LabelledData`."""
    target: LabelKind = "class"
    """Kind of label."""

    @property
    def task(self) -> Task:
        """The task of the label."""
        return task_of(self.target)

    @classmethod
    def of(cls, tokens: Tokens, rows: Rows, *, target: LabelKind = "class") -> EncodedRows:
        """Return labelled rows with their ids.

        :param tokens: ids of all texts that the rows' places refer to.
        :param rows: the rows.
        :param target: kind of their label.
        :return: the same rows, ready for the model.
        """
        return cls(tokens.take(rows.places), rows.targets, target)

    def cut(self, tokens: int) -> EncodedRows:
        """Return the same rows, each with its first tokens only."""
        return EncodedRows(self.tokens.cut(tokens), self.targets, self.target)


def quality(model: TrainableModel, rows: EncodedRows) -> Measures:
    """Measure a model.

    :param model: the model, in evaluation mode.
    :param rows: at least one row.
    :return: see :meth:`modelmill.tasks.base.Task.quality`.
    """
    return rows.task.quality(all_logits(model, rows.tokens), rows.targets)


Measure = Callable[[TrainableModel, EncodedRows], Measures]
"""Measures a model, in evaluation mode, on rows. Of its metrics more is better of the first."""
