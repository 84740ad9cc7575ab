"""What a fine-tuning minimises, by the kind of label."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional

from modelmill.data.dataset_config import LabelKind
from modelmill.data.tokens import Places
from modelmill.training.classifier import Classifier
from modelmill.training.examples import LabelledData
from modelmill.training.heads import balanced_weights
from modelmill.training.loop import Loss
from modelmill.training.options import ClassWeights


def supervised_loss(data: LabelledData, class_weights: ClassWeights) -> Loss:
    """Return the loss for labelled rows: cross-entropy, binary cross-entropy, or the squared error.

    Numbers are learned in units of their standard deviation, see :func:`fit_scale`.

    :param data: what there is to learn.
    :param class_weights: whether rows of rare classes count more.
    :return: the loss: a mean over the rows.
    """
    weights = torch.ones(data.outputs)
    if class_weights == "balanced" and data.target != "number":
        weights = torch.from_numpy(balanced_weights(data))
    return _LOSSES[data.target](data, weights)


def fit_scale(model: Classifier, data: LabelledData) -> None:
    """Let a trained model answer in the units of the labels.

    :param model: trained with :func:`supervised_loss` on numbers; changed in place.
    :param data: what it has learned.
    """
    mean, spread = data.units
    with torch.no_grad():
        model.head.weight.mul_(spread)
        model.head.bias.mul_(spread).add_(mean)


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


def _number(data: LabelledData, _weights: torch.Tensor) -> Loss:
    mean, spread = data.units

    def loss(logits: torch.Tensor, targets: torch.Tensor, _rows: Places) -> torch.Tensor:
        return functional.mse_loss(logits[:, 0], (targets - mean) / spread)

    return loss


_LOSSES: Mapping[LabelKind, Callable[[LabelledData, torch.Tensor], Loss]] = {
    "class": _one_class,
    "classes": _many_classes,
    "number": _number,
}
