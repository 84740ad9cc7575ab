"""What a student minimises: its distance from a teacher's answers, and from the labels where there are some.

For one class a row the loss is that of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural
Network" (2015, arXiv 1503.02531): Kullback-Leibler divergence between the softened distributions, times the
temperature squared so that its gradients keep their size, plus cross-entropy with the labels. Sets of classes
are as many questions of yes and no, each with its own divergence; numbers have squared errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from modelmill.datasets.options import LabelKind
from modelmill.tokens.token_ids import Places
from modelmill.training.loop import Loss

_Parts = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Of each row its distance from the teacher, from its label, and whether it has one: ``(batch,)``."""

UNKNOWN: Mapping[LabelKind, float] = {"class": -1, "classes": np.nan, "number": np.nan}
"""What stands for a missing label in the targets."""


class Answers(Protocol):
    """A teacher's logits, read row by row as they are needed: an array, mapped or not, or several of them."""

    def __getitem__(self, rows: Places, /) -> npt.NDArray[np.float32]:
        """Return the logits of some rows.

        :param rows: their places, ``(batch,)``.
        :return: ``(batch, outputs)``.
        """


@dataclass(frozen=True)
class Stacked:
    """The answers to some rows, and then those to others."""

    first: Answers
    second: Answers
    rows: int
    """Of the first."""

    def __getitem__(self, rows: Places, /) -> npt.NDArray[np.float32]:
        """See :class:`Answers`.

        :param rows: places of rows, ``(batch,)``.
        :return: ``(batch, outputs)``.
        """
        later = rows >= self.rows
        parts = self.first[rows[~later]], self.second[rows[later] - self.rows]
        # Back into the order that was asked for.
        return np.concatenate(parts)[np.argsort(np.argsort(later, kind="stable"), kind="stable")]


def distillation_loss(
    soft: Answers,
    *,
    temperature: float,
    soft_weight: float,
    target: LabelKind = "class",
    units: tuple[float, float] = (0.0, 1.0),
) -> Loss:
    """Return the loss of a student.

    Of a row without a label, see :data:`UNKNOWN`, the teacher alone says what it is.

    :param soft: the teacher's logits for the train rows, ``(rows, outputs)``.
    :param temperature: softens both distributions.
    :param soft_weight: weight of the teacher's answers; the rest is for the labels.
    :param target: kind of label.
    :param units: mean and standard deviation in which the student learns numbers.
    :return: the loss.
    """
    parts, (mean, spread) = _PARTS[target], units

    def loss(logits: torch.Tensor, targets: torch.Tensor, rows: Places) -> torch.Tensor:
        teacher = torch.from_numpy((soft[rows] - mean) / spread).to(logits)  # (batch, outputs)
        from_teacher, from_label, known = parts(logits, teacher, targets, temperature)
        weight = torch.where(known, soft_weight, 1.0)
        return (weight * from_teacher + (1 - weight) * from_label).mean()

    return loss


def _one_class(
    logits: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, temperature: float
) -> _Parts:
    divergence = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        log_target=True,
        reduction="none",
    ).sum(1)
    hard = functional.cross_entropy(logits, targets, reduction="none", ignore_index=-1)
    return temperature**2 * divergence, hard, targets >= 0


def _many_classes(
    logits: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, temperature: float
) -> _Parts:
    wanted = torch.sigmoid(teacher / temperature)  # (batch, classes)
    # Without the teacher's own entropy, which no gradient sees: so a student like it has no loss.
    own = functional.binary_cross_entropy_with_logits(teacher / temperature, wanted, reduction="none")
    found = functional.binary_cross_entropy_with_logits(logits / temperature, wanted, reduction="none")
    known = ~torch.isnan(targets).any(dim=1)
    hard = functional.binary_cross_entropy_with_logits(logits, torch.nan_to_num(targets), reduction="none")
    return temperature**2 * (found - own).mean(1), hard.mean(1), known


def _number(
    logits: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, _temperature: float
) -> _Parts:
    value, known = logits[:, 0], ~torch.isnan(targets)
    hard = (value - torch.nan_to_num(targets)).square()
    return (value - teacher[:, 0]).square(), hard, known


_PARTS: Mapping[LabelKind, Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], _Parts]] = {
    "class": _one_class,
    "classes": _many_classes,
    "number": _number,
}
