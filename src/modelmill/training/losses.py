"""What a fine-tuning minimises, by the kind of label."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch.nn import functional

from modelmill.datasets.options import LabelKind
from modelmill.models.classifier import Classifier
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.token_ids import Places
from modelmill.training.heads import balanced_weights
from modelmill.training.loop import Encoded, Loss
from modelmill.training.options import ClassWeights


def supervised_loss(data: LabelledData, class_weights: ClassWeights) -> Loss:
    """Return the loss for labelled rows: cross-entropy, binary cross-entropy, or the squared error.

    Numbers are learned in units of their standard deviation, see :func:`in_units`.

    :param data: what there is to learn.
    :param class_weights: whether rows of rare classes count more.
    :return: the loss: a mean over the rows.
    """
    weights = torch.ones(data.outputs)
    if class_weights == "balanced" and data.target != "number":
        weights = torch.from_numpy(balanced_weights(data))
    return _LOSSES[data.target](data, weights)


def in_units(rows: Encoded, data: LabelledData) -> Encoded:
    """Return rows as a training sees them: numbers in units of their standard deviation, from their mean.

    :param rows: rows of any split.
    :param data: what there is to learn.
    :return: the same rows; unchanged where the label is no number.
    """
    mean, spread = data.units
    if rows.target != "number":
        return rows
    return dataclasses.replace(rows, targets=((rows.targets - mean) / spread).astype(np.float32))


def fit_scale(model: Classifier, data: LabelledData) -> None:
    """Let a trained model answer in the units of the labels.

    :param model: trained on :func:`in_units`; changed in place.
    :param data: what it has learned.
    """
    mean, spread = data.units
    with torch.no_grad():
        model.head.weight.mul_(spread)
        model.head.bias.mul_(spread).add_(mean)


def undo_scale(model: Classifier, data: LabelledData) -> None:
    """Undo :func:`fit_scale`, so that a model can go on learning.

    :param model: changed in place.
    :param data: what it is going to learn.
    """
    mean, spread = data.units
    with torch.no_grad():
        model.head.weight.div_(spread)
        model.head.bias.sub_(mean).div_(spread)


def _one_class(_data: LabelledData, weights: torch.Tensor) -> Loss:
    def loss(logits: torch.Tensor, targets: torch.Tensor, _rows: Places) -> torch.Tensor:
        # Divided by the rows, not by their weights: so parts of a batch add up to the whole.
        each = functional.cross_entropy(logits, targets, weight=weights.to(logits.device), reduction="sum")
        return each / len(targets)

    return loss


def _many_classes(_data: LabelledData, weights: torch.Tensor) -> Loss:
    def loss(logits: torch.Tensor, targets: torch.Tensor, _rows: Places) -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=weights.to(logits.device)
        )

    return loss


def _number(_data: LabelledData, _weights: torch.Tensor) -> Loss:
    def loss(logits: torch.Tensor, targets: torch.Tensor, _rows: Places) -> torch.Tensor:
        return functional.mse_loss(logits[:, 0], targets)

    return loss


_LOSSES: Mapping[LabelKind, Callable[[LabelledData, torch.Tensor], Loss]] = {
    "class": _one_class,
    "classes": _many_classes,
    "number": _number,
}
