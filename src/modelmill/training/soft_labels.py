"""What a student minimises: its distance from a teacher's answers, and from labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from modelmill.tasks.base import Task
from modelmill.tokens.token_ids import Places
from modelmill.training.losses import Loss


class TeacherLogits(Protocol):
    """A teacher's logits, read row by row as they are needed: an array, mapped or not, or several."""

    def __getitem__(self, rows: Places, /) -> npt.NDArray[np.float32]:
        """Return the logits of some rows.

        :param rows: their places, ``(batch,)``.
        :return: ``(batch, outputs)``.
        """


@dataclass(frozen=True)
class ConcatenatedLogits:
    """The logits of some rows, followed by those of others."""

    first: TeacherLogits
    second: TeacherLogits
    rows: int
    """Of the first."""

    def __getitem__(self, rows: Places, /) -> npt.NDArray[np.float32]:
        """See :class:`TeacherLogits`."""
        later = rows >= self.rows
        parts = self.first[rows[~later]], self.second[rows[later] - self.rows]
        # In the order of the places.
        return np.concatenate(parts)[np.argsort(np.argsort(later, kind="stable"), kind="stable")]


def distillation_loss(
    soft: TeacherLogits,
    *,
    temperature: float,
    soft_weight: float,
    task: Task,
    units: tuple[float, float] = (0.0, 1.0),
) -> Loss:
    """Return the loss of a student: a weighted sum of :meth:`Task.distances` and :meth:`Task.row_losses`.

    A row without a label is compared with the teacher's answer alone.

    :param soft: the teacher's logits for the train rows, ``(rows, outputs)``.
    :param temperature: softens both distributions.
    :param soft_weight: weight of the teacher's answers; the rest is for the labels.
    :param task: the kind of label.
    :param units: mean and standard deviation in which the student learns numbers.
    :return: the loss.
    """
    mean, spread = units

    def loss(logits: torch.Tensor, targets: torch.Tensor, rows: Places) -> torch.Tensor:
        teacher = torch.from_numpy((soft[rows] - mean) / spread).to(logits)  # (batch, outputs)
        from_teacher = task.distances(logits, teacher, temperature)  # (batch,)
        from_label = task.row_losses(logits, targets)  # (batch,)
        weight = torch.where(task.known(targets), soft_weight, 1.0)
        return (weight * from_teacher + (1 - weight) * from_label).mean()

    return loss
