"""What a training on labels minimises, and the units in which numbers are learned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch

from modelmill.models.classifier import Classifier
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.token_ids import Places
from modelmill.training.options import ClassWeights
from modelmill.training.rows import EncodedRows

Loss = Callable[[torch.Tensor, torch.Tensor, Places], torch.Tensor]
"""From logits ``(batch, outputs)``, targets ``(batch, …)`` and the rows' places ``(batch,)`` to a scalar: a
mean over the rows, so that a batch can be computed in parts."""


def supervised_loss(data: LabelledData, class_weights: ClassWeights) -> Loss:
    """Return the loss for labelled rows, see :meth:`modelmill.tasks.base.Task.loss`.

    Numbers are learned in units of their standard deviation, see :func:`in_units`.

    :param data: the labelled rows.
    :param class_weights: whether rows of rare classes count more.
    :return: the loss.
    """
    task, weights = data.task, class_weight_tensor(data, class_weights)

    def loss(logits: torch.Tensor, targets: torch.Tensor, _rows: Places) -> torch.Tensor:
        return task.loss(logits, targets, weights=weights.to(logits.device))

    return loss


def class_weight_tensor(data: LabelledData, class_weights: ClassWeights) -> torch.Tensor:
    """Return how much the rows of each class count.

    :param data: the labelled rows.
    :param class_weights: whether rows of rare classes count more.
    :return: ``(outputs,)``; 1 for numbers.
    """
    if class_weights == "none":
        return torch.ones(data.outputs)
    return torch.from_numpy(data.task.balanced_weights(data.train.targets, data.outputs))


def in_units(rows: EncodedRows, data: LabelledData) -> EncodedRows:
    """Return rows with standardised targets: numbers minus their mean, in units of their standard deviation.

    :param rows: rows of any split.
    :param data: the labelled rows.
    :return: the same rows; unchanged if the label is not a number.
    """
    if rows.task.has_classes:
        return rows
    mean, spread = data.units
    return dataclasses.replace(rows, targets=((rows.targets - mean) / spread).astype(np.float32))


def fit_scale(model: Classifier, data: LabelledData) -> None:
    """Make a trained model answer in the units of the labels; models of classes stay as they are.

    :param model: trained on :func:`in_units`; changed in place.
    :param data: the labelled rows that it learned from.
    """
    if data.task.has_classes:
        return
    mean, spread = data.units
    with torch.no_grad():
        model.head.weight.mul_(spread)
        model.head.bias.mul_(spread).add_(mean)


def undo_scale(model: Classifier, data: LabelledData) -> None:
    """Undo :func:`fit_scale`, so that a model can be trained further.

    :param model: changed in place.
    :param data: the labelled rows that it is going to learn from.
    """
    if data.task.has_classes:
        return
    mean, spread = data.units
    with torch.no_grad():
        model.head.weight.div_(spread)
        model.head.bias.sub_(mean).div_(spread)


def loss_sum(first: Loss, second: Loss | None) -> Loss:
    """Return the sum of two losses.

    :param first: a loss.
    :param second: another one; None: nothing.
    :return: the sum.
    """
    if second is None:
        return first

    def loss(logits: torch.Tensor, targets: torch.Tensor, rows: Places) -> torch.Tensor:
        return first(logits, targets, rows) + second(logits, targets, rows)

    return loss
