"""Heads of signals with one kind of label and number of outputs: targets, losses, best weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from modelmill.models.heads import Weights
from modelmill.tasks.base import Task
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.token_ids import Places
from modelmill.training.losses import class_weight_tensor
from modelmill.training.options import HeadTrainingOptions
from modelmill.training.trainable_heads import TRAINABLE_HEADS


@dataclass(frozen=True)
class BestHead:
    """The best head of a signal."""

    weights: Weights
    epochs: int
    """Passes after which its validation loss was smallest."""
    loss: float
    """That loss; the training loss where there are no validation rows."""


@dataclass(frozen=True)
class SplitTargets:
    """What the heads of a group learn from the rows of a split."""

    targets: torch.Tensor
    """What the group's loss reads, ``(rows, heads, …)``; anything where a row has no label."""
    weights: torch.Tensor
    """What a row counts in its head's mean loss, ``(rows, heads)``; 0 without a label."""

    def take(self, rows: torch.Tensor) -> SplitTargets:
        """Return some of the rows, by their places."""
        return SplitTargets(self.targets.index_select(0, rows), self.weights.index_select(0, rows))

    def part(self, rows: slice) -> SplitTargets:
        """Return neighbouring rows."""
        return SplitTargets(self.targets[rows], self.weights[rows])


_StackedLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""From logits ``(batch, heads, outputs)``, targets and the weights of classes ``(heads, outputs)`` to losses
``(batch, heads)``. (If a row has one class, its weight is in that of the row.)"""


class HeadGroup:
    """Signals that one stack of heads answers, and the state of their training.

    :param signals: what each learns; all of one kind of label, with one number of outputs.
    :param features: features that a head reads.
    :param options: how to train.
    """

    def __init__(self, signals: Sequence[LabelledData], features: int, options: HeadTrainingOptions) -> None:
        self.signals = signals
        kind = TRAINABLE_HEADS[type(options.head)]
        self.task, outputs = signals[0].task, signals[0].outputs
        self.two = self.task.exclusive and outputs == 2
        self.mirrored = self.two and kind.starts_at_zero
        """Whether the second class's logit is the first one's, negated, all along: half the work."""
        self.stack = kind(
            options.head,
            [signal.label for signal in signals],
            features=features,
            outputs=1 if self.mirrored else outputs,
            seed=options.seed,
        )
        self.loss = _stacked_loss(self.task, outputs)
        self.parameters = dict(self.stack.named_parameters())
        self.best = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.least = torch.full((len(signals),), float("inf"))
        self.epoch = torch.zeros(len(signals), dtype=torch.long)
        self.scales = [signal.units for signal in signals]
        weights = [class_weight_tensor(signal, options.class_weights) for signal in signals]
        self.class_weights = torch.stack(weights)  # (heads, outputs)

    def split(self, name: str, rows: Places) -> SplitTargets:
        """Return targets and weights of some rows.

        :param name: ``train`` or ``validation``.
        :param rows: places of all rows of that split, of whatever signal, rising.
        :return: for each row and head.
        """
        parts = [getattr(signal, name) for signal in self.signals]
        shape = (len(rows), len(self.signals), *parts[0].targets.shape[1:])
        targets = np.zeros(shape, dtype=parts[0].targets.dtype)
        weights = np.zeros(shape[:2], dtype=np.float32)
        for column, (part, (mean, spread)) in enumerate(zip(parts, self.scales, strict=True)):
            at = np.searchsorted(rows, part.places)
            targets[at, column] = part.targets if self.task.has_classes else (part.targets - mean) / spread
            weights[at, column] = 1 / max(len(part), 1)
            if self.task.exclusive:
                weights[at, column] *= self.class_weights[column].numpy()[part.targets]
        if self.two:
            targets = np.where(targets == 0, 1, -1).astype(np.float32) * (2 if self.mirrored else 1)
        return SplitTargets(torch.from_numpy(targets), torch.from_numpy(weights))

    def losses(self, features: torch.Tensor, mask: torch.Tensor, split: SplitTargets) -> torch.Tensor:
        """Return each head's share of its mean loss, ``(heads,)``."""
        losses = self.loss(self.stack(features, mask), split.targets, self.class_weights)
        return (losses * split.weights).sum(0)

    def keep_better(self, losses: torch.Tensor, epoch: int) -> None:
        """Keep the weights of heads that are better than ever.

        :param losses: of an epoch, ``(heads,)``.
        :param epoch: its number.
        """
        better = losses < self.least
        self.least = torch.where(better, losses, self.least)
        self.epoch[better] = epoch
        for name, value in self.parameters.items():
            self.best[name][better] = value.detach()[better]

    def heads(self, mean: FloatArray, spread: FloatArray) -> dict[str, BestHead]:
        """Return the best head of each signal, by the signal's name.

        :param mean: of each feature, ``(features,)``.
        :param spread: standard deviation of each feature, ``(features,)``.
        :return: heads for features that are not standardised.
        """
        found = {}
        for index, (signal, scale) in enumerate(zip(self.signals, self.scales, strict=True)):
            own = {name: value[index].numpy() for name, value in self.best.items()}
            weights = self.stack.plain(own, mean, spread)
            if self.mirrored:
                last = {name: np.concatenate([-weights[name], weights[name]]) for name in ("weight", "bias")}
                weights = {**weights, **last}
            if not self.task.has_classes:
                shift, factor = scale
                weights = {
                    **weights,
                    "weight": weights["weight"] * factor,
                    "bias": weights["bias"] * factor + shift,
                }
            weights = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()}
            found[signal.label] = BestHead(weights, int(self.epoch[index]), float(self.least[index]))
        return found


def _stacked_loss(task: Task, outputs: int) -> _StackedLoss:
    if not task.has_classes:
        return _squared
    if not task.exclusive:
        return _binary
    return _two_classes if outputs == 2 else _cross_entropy


def _two_classes(logits: torch.Tensor, targets: torch.Tensor, _weights: torch.Tensor) -> torch.Tensor:
    # Logits of both, and targets 1 for the first class and -1 for the second; or the second's, and 2 and -2.
    lead = logits[..., 1] - logits[..., 0] if logits.shape[-1] == 2 else logits[..., 0]
    return functional.softplus(lead * targets)


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor, _weights: torch.Tensor) -> torch.Tensor:
    losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape)


def _binary(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    # The weight is that of a class's own rows; those of all others count 1.
    return (losses * torch.where(targets > 0, weights, torch.ones(()))).mean(2)


def _squared(logits: torch.Tensor, targets: torch.Tensor, _weights: torch.Tensor) -> torch.Tensor:
    return (logits[..., 0] - targets) ** 2
