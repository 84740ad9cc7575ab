"""Heads of many signals, trained together on what one trunk makes of the rows.

The heads are stacked: one matrix product answers for all of them. Each signal counts its own labelled rows
only, has its own loss, and is kept as it was after its own best epoch, so no head learns from another one.
(All go on until none gets better any more, so what is trained beside a head can let it go on for longer.)
Optimiser: AdamW, whose steps are element by element.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from modelmill.errors import ModelError
from modelmill.models.heads import Weights
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.token_ids import Places
from modelmill.training.features import Features
from modelmill.training.options import AttentionHead, LinearHead, MlpHead

if TYPE_CHECKING:
    from modelmill.component import StepContext
    from modelmill.steps.train_heads import TrainHeadsConfig

_STATISTICS_ROWS = 20_000
_EVALUATION_ROWS = 1024
_GATHERED_BATCHES = 8
_HELD_NUMBERS = 1 << 26
"""Features of all rows that stay in memory while heads train: 256 MB of them."""


@dataclass(frozen=True)
class TrainedHead:
    """One signal's head."""

    weights: Weights
    epochs: int
    """Passes after which its validation loss was smallest."""
    loss: float
    """That loss; the training loss where there are no validation rows."""


class Stack(nn.Module, ABC):
    """Heads of signals that have the same kind of label and the same number of outputs.

    :param config: the head's configuration.
    :param names: the signals; each one's first weights depend on the seed and its name alone.
    :param features: features that a head reads.
    :param outputs: logits of a head.
    :param seed: of the training.
    """

    reads: ClassVar[str]
    starts_at_zero: ClassVar[bool] = False
    """Whether all weights do: then those of two classes are each other's, negated, after every step."""

    def __init__(self, config: Any, names: Sequence[str], *, features: int, outputs: int, seed: int) -> None:
        super().__init__()
        self.config = config
        self.names = tuple(names)
        self.sizes = {"features": features, "outputs": outputs}
        self.seeds = [_seed(seed, name) for name in names]

    def stacked(self, *shape: int, scale: float) -> nn.Parameter:
        """Return a weight of each head, ``(heads, *shape)``, normally distributed."""
        values = [
            torch.randn(shape, generator=torch.Generator().manual_seed(number)) * scale
            for number in self.seeds
        ]
        return nn.Parameter(torch.stack(values))

    @abstractmethod
    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the logits.

        :param features: standardised, ``(batch, features)`` or ``(batch, tokens, features)``.
        :param mask: 1 where there is a token, ``(batch, tokens)``.
        :return: ``(batch, heads, outputs)``.
        """

    @abstractmethod
    def plain(self, weights: Mapping[str, FloatArray], mean: FloatArray, spread: FloatArray) -> Weights:
        """Return one head's weights for features that are not standardised.

        :param weights: the head's, by parameter name.
        :param mean: of each feature.
        :param spread: standard deviation of each feature.
        :return: the weights that :mod:`modelmill.models.heads` names.
        """


class LinearHeads(Stack):
    """Linear heads."""

    reads = "features"
    starts_at_zero = True

    def __init__(self, config: LinearHead, names: Sequence[str], **sizes: int) -> None:
        super().__init__(config, names, **sizes)
        shape = (sizes["outputs"], sizes["features"])
        self.weight = self.stacked(*shape, scale=0.0)  # (heads, outputs, features)
        self.bias = self.stacked(sizes["outputs"], scale=0.0)  # (heads, outputs)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 (as all heads)
        """See :meth:`Stack.forward`."""
        flat = functional.linear(features, self.weight.flatten(0, 1), self.bias.flatten())
        return flat.view(-1, *self.bias.shape)  # of (batch, heads * outputs)

    def plain(self, weights: Mapping[str, FloatArray], mean: FloatArray, spread: FloatArray) -> Weights:
        """See :meth:`Stack.plain`."""
        weight = weights["weight"] / spread
        return {"weight": weight, "bias": weights["bias"] - weight @ mean}


class MlpHeads(Stack):
    """Heads with one hidden layer."""

    reads = "features"

    def __init__(self, config: MlpHead, names: Sequence[str], **sizes: int) -> None:
        super().__init__(config, names, **sizes)
        features, outputs, width = sizes["features"], sizes["outputs"], config.width
        self.hidden = self.stacked(width, features, scale=(2 / features) ** 0.5)  # (heads, width, features)
        self.hidden_bias = self.stacked(width, scale=0.0)
        self.weight = self.stacked(outputs, width, scale=width**-0.5)  # (heads, outputs, width)
        self.bias = self.stacked(outputs, scale=0.0)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 (as all heads)
        """See :meth:`Stack.forward`."""
        flat = features @ self.hidden.flatten(0, 1).T  # (batch, heads * width)
        hidden = functional.relu(flat.view(-1, *self.hidden_bias.shape) + self.hidden_bias)
        return torch.einsum("bhw,how->bho", hidden, self.weight) + self.bias

    def plain(self, weights: Mapping[str, FloatArray], mean: FloatArray, spread: FloatArray) -> Weights:
        """See :meth:`Stack.plain`."""
        hidden = weights["hidden"] / spread
        return {
            "hidden.weight": hidden,
            "hidden.bias": weights["hidden_bias"] - hidden @ mean,
            "weight": weights["weight"],
            "bias": weights["bias"],
        }


class AttentionHeads(Stack):
    """Heads that weigh the tokens themselves."""

    reads = "states"

    def __init__(self, config: AttentionHead, names: Sequence[str], **sizes: int) -> None:
        super().__init__(config, names, **sizes)
        features, outputs = sizes["features"], sizes["outputs"]
        self.query = self.stacked(features, scale=0.02)  # (heads, features)
        self.weight = self.stacked(outputs, features, scale=0.02)  # (heads, outputs, features)
        self.bias = self.stacked(outputs, scale=0.0)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See :meth:`Stack.forward`."""
        scores = features @ self.query.T * features.shape[-1] ** -0.5  # (batch, tokens, heads)
        scores = scores.masked_fill(mask[..., None] == 0, float("-inf"))
        pooled = scores.softmax(dim=1).mT @ features  # (batch, heads, features)
        return torch.einsum("bhf,hof->bho", pooled, self.weight) + self.bias

    def plain(self, weights: Mapping[str, FloatArray], mean: FloatArray, spread: FloatArray) -> Weights:
        """See :meth:`Stack.plain`: what the mean adds to all tokens' scores alike, the softmax takes away."""
        weight = weights["weight"] / spread
        return {
            "query": weights["query"] / spread,
            "weight": weight,
            "bias": weights["bias"] - weight @ mean,
        }


TRAINED_STACKS: Mapping[type[Any], type[Stack]] = {
    LinearHead: LinearHeads,
    MlpHead: MlpHeads,
    AttentionHead: AttentionHeads,
}
"""What trains heads, by their configuration's type."""


def train_stack(
    tasks: Sequence[LabelledData], features: Features, *, config: TrainHeadsConfig, context: StepContext
) -> dict[str, TrainedHead]:
    """Train the heads of signals.

    :param tasks: what each signal has to learn.
    :param features: what the trunk makes of all rows of the dataset.
    :param config: how.
    :param context: the step.
    :return: the heads by the signal's name.
    :raises ModelError: if a loss is no longer finite.
    """
    groups: dict[tuple[str, int], list[LabelledData]] = {}
    for task in tasks:
        groups.setdefault((task.target, task.outputs), []).append(task)
    return _Training(list(groups.values()), features, config, context).run()


class _Group:
    """Signals that are answered by one stack, and the state of their training."""

    def __init__(self, tasks: Sequence[LabelledData], features: int, config: TrainHeadsConfig) -> None:
        self.tasks = tasks
        kind = TRAINED_STACKS[type(config.head)]
        self.target, outputs = tasks[0].target, tasks[0].outputs
        self.two = self.target == "class" and outputs == 2
        self.mirrored = self.two and kind.starts_at_zero
        """Whether the second class's logit is the first one's, negated, all along: half the work."""
        self.stack = kind(
            config.head,
            [task.label for task in tasks],
            features=features,
            outputs=1 if self.mirrored else outputs,
            seed=config.seed,
        )
        self.loss = _two_classes if self.two else _LOSSES[self.target]
        self.parameters = dict(self.stack.named_parameters())
        self.best = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.least = torch.full((len(tasks),), float("inf"))
        self.epoch = torch.zeros(len(tasks), dtype=torch.long)
        self.scales = [task.units for task in tasks]
        weights = [_class_weights(task, config.class_weights) for task in tasks]
        self.class_weights = torch.stack(weights)  # (heads, outputs)

    def split(self, name: str, rows: Places) -> _Split:
        parts = [getattr(task, name) for task in self.tasks]
        shape = (len(rows), len(self.tasks), *parts[0].targets.shape[1:])
        targets = np.zeros(shape, dtype=parts[0].targets.dtype)
        weights = np.zeros(shape[:2], dtype=np.float32)
        for column, (part, (mean, spread)) in enumerate(zip(parts, self.scales, strict=True)):
            at = np.searchsorted(rows, part.places)
            targets[at, column] = (part.targets - mean) / spread if self.target == "number" else part.targets
            weights[at, column] = 1 / max(len(part), 1)
            if self.target == "class":
                weights[at, column] *= self.class_weights[column].numpy()[part.targets]
        if self.two:
            targets = np.where(targets == 0, 1, -1).astype(np.float32) * (2 if self.mirrored else 1)
        return _Split(torch.from_numpy(targets), torch.from_numpy(weights))

    def losses(self, features: torch.Tensor, mask: torch.Tensor, split: _Split) -> torch.Tensor:
        """Return each head's share of its mean loss, ``(heads,)``."""
        losses = self.loss(self.stack(features, mask), split.targets, self.class_weights)
        return (losses * split.weights).sum(0)

    def keep_better(self, losses: torch.Tensor, epoch: int) -> None:
        better = losses < self.least
        self.least = torch.where(better, losses, self.least)
        self.epoch[better] = epoch
        for name, value in self.parameters.items():
            self.best[name][better] = value.detach()[better]

    def heads(self, mean: FloatArray, spread: FloatArray) -> dict[str, TrainedHead]:
        found = {}
        for index, (task, scale) in enumerate(zip(self.tasks, self.scales, strict=True)):
            own = {name: value[index].numpy() for name, value in self.best.items()}
            weights = self.stack.plain(own, mean, spread)
            if self.mirrored:
                last = {name: np.concatenate([-weights[name], weights[name]]) for name in ("weight", "bias")}
                weights = {**weights, **last}
            if self.target == "number":
                shift, factor = scale
                weights = {
                    **weights,
                    "weight": weights["weight"] * factor,
                    "bias": weights["bias"] * factor + shift,
                }
            weights = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in weights.items()}
            found[task.label] = TrainedHead(weights, int(self.epoch[index]), float(self.least[index]))
        return found


@dataclass(frozen=True)
class _Split:
    targets: torch.Tensor
    """What the group's loss reads, ``(rows, heads, …)``; anything where a row has no label."""
    weights: torch.Tensor
    """What a row counts in its head's mean loss, ``(rows, heads)``; 0 without a label."""

    def take(self, rows: torch.Tensor) -> _Split:
        return _Split(self.targets.index_select(0, rows), self.weights.index_select(0, rows))

    def part(self, rows: slice) -> _Split:
        return _Split(self.targets[rows], self.weights[rows])


@dataclass(frozen=True)
class _Batch:
    features: torch.Tensor
    mask: torch.Tensor
    splits: list[_Split]
    """Targets and weights of each group's heads."""


class _Training:
    def __init__(
        self,
        groups: Sequence[Sequence[LabelledData]],
        features: Features,
        config: TrainHeadsConfig,
        context: StepContext,
    ) -> None:
        self.features, self.config, self.context = features, config, context
        self.groups = [_Group(tasks, features.size, config) for tasks in groups]
        self.reads = TRAINED_STACKS[type(config.head)].reads
        tasks = [task for group in groups for task in group]
        self.rows = {
            name: np.unique(np.concatenate([getattr(task, name).places for task in tasks]))
            for name in ("train", "validation")
        }
        self.splits = {
            name: [group.split(name, rows) for group in self.groups] for name, rows in self.rows.items()
        }
        self.mean, self.spread = self._statistics()
        self.held = {name: self._held(rows) for name, rows in self.rows.items()}
        self.parameters = [value for group in self.groups for value in group.parameters.values()]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def run(self) -> dict[str, TrainedHead]:
        rows, quiet = len(self.rows["train"]), 0
        for epoch in range(1, self.config.epochs + 1):
            order = np.random.default_rng([self.config.seed, epoch]).permutation(rows)
            learned = [torch.zeros(len(group.tasks)) for group in self.groups]
            for batch in self._batches("train", order, self.config.batch_size):
                for total, part in zip(learned, self._step(batch, rows), strict=True):
                    total += part
            self._check_finite(learned)
            # A head without validation rows of its own goes by the training loss.
            judged = [split.weights.any(0) for split in self.splits["validation"]]
            losses = [
                torch.where(own, found, train)
                for own, found, train in zip(judged, self._evaluate(), learned, strict=True)
            ]
            before = [group.least.clone() for group in self.groups]
            for group, found in zip(self.groups, losses, strict=True):
                group.keep_better(found, epoch)
            improved = any(
                bool((group.least < old - 1e-4 * old.abs().clamp(max=1e9)).any())
                for group, old in zip(self.groups, before, strict=True)
            )
            quiet = 0 if improved else quiet + 1
            self.context.progress(epoch, self.config.epochs, loss=float(torch.cat(losses).mean()))
            if quiet >= self.config.patience:
                break
        return {
            name: head for group in self.groups for name, head in group.heads(self.mean, self.spread).items()
        }

    def _step(self, batch: _Batch, rows: int) -> list[torch.Tensor]:
        losses = [
            group.losses(batch.features, batch.mask, split)
            for group, split in zip(self.groups, batch.splits, strict=True)
        ]
        # Each head's batches add up to its mean loss; so scaled, a batch is worth as much as the whole.
        total = torch.cat(losses).sum() * (rows / len(batch.features))
        # Quicker than backward(), which adds to gradients that have to be cleared. The fused optimiser reads
        # them in their parameter's order in memory.
        gradients = torch.autograd.grad(total, self.parameters)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient.contiguous()
        self.optimizer.step()
        return [loss.detach() for loss in losses]

    def _check_finite(self, losses: Sequence[torch.Tensor]) -> None:
        if not all(bool(torch.isfinite(loss).all()) for loss in losses):
            raise ModelError(
                "the heads' training loss must stay finite",
                got=f"learning_rate={self.config.learning_rate}",
                remedy="lower learning_rate, or look for labels that are no finite numbers",
            )

    @torch.no_grad()
    def _evaluate(self) -> list[torch.Tensor]:
        found = [torch.zeros(len(group.tasks)) for group in self.groups]
        order = np.arange(len(self.rows["validation"]))
        for batch in self._batches("validation", order, _EVALUATION_ROWS):
            for total, group, split in zip(found, self.groups, batch.splits, strict=True):
                total += group.losses(batch.features, batch.mask, split)
        return found

    def _batches(self, name: str, order: Places, size: int) -> Iterator[_Batch]:
        """Read rows of a split in an order: of features, many batches are gathered at once."""
        block = size if self.reads == "states" else size * _GATHERED_BATCHES
        for start in range(0, len(order), block):
            chosen = order[start : start + block]
            features, mask = self._read(name, chosen)
            splits = [split.take(torch.from_numpy(chosen)) for split in self.splits[name]]
            for begin in range(0, len(chosen), size):
                part = slice(begin, begin + size)
                yield _Batch(features[part], mask[part], [split.part(part) for split in splits])

    def _held(self, rows: Places) -> torch.Tensor | None:
        """Return standardised features of rows, ``(rows, features)``, if they are few enough to be held."""
        if self.reads == "states" or len(rows) * self.features.size > _HELD_NUMBERS:
            return None
        return torch.from_numpy((self.features.take(rows) - self.mean) / self.spread)

    def _read(self, name: str, batch: Places) -> tuple[torch.Tensor, torch.Tensor]:
        held = self.held[name]
        if held is not None:
            return held.index_select(0, torch.from_numpy(batch)), torch.ones(len(batch), 1)
        rows = self.rows[name][batch]
        if self.reads == "states":
            values, mask = self.features.take_states(rows)
        else:
            values, mask = self.features.take(rows), np.ones((len(rows), 1), dtype=np.float32)
        return torch.from_numpy((values - self.mean) / self.spread), torch.from_numpy(mask)

    def _statistics(self) -> tuple[FloatArray, FloatArray]:
        rows = self.rows["train"]
        chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _STATISTICS_ROWS)).astype(np.int64)]
        values = self.features.take(chosen)
        return values.mean(0), values.std(0) + np.float32(1e-6)


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


_LOSSES = {"class": _cross_entropy, "classes": _binary, "number": _squared}
"""From logits ``(batch, heads, outputs)``, targets and the weights of sets' classes ``(heads, outputs)`` to
losses ``(batch, heads)``, by kind of label. (The weights of single classes are in those of the rows.)"""


def _class_weights(task: LabelledData, how: str) -> torch.Tensor:
    if how == "none" or task.target == "number":
        return torch.ones(task.outputs)
    return torch.from_numpy(balanced_weights(task)).float()


def balanced_weights(task: LabelledData) -> FloatArray:
    """Return what rows of each class count, so that classes count alike: as scikit-learn's ``balanced``.

    :param task: train rows of kind ``class`` or ``classes``.
    :return: ``(classes,)``: rows / (classes * rows of the class), for sets of classes rows without the class
        per row with it, at most 100.
    """
    targets, classes = task.train.targets, len(task.classes)
    if task.target == "class":
        counts = np.bincount(targets.astype(np.int64), minlength=classes)
        return np.asarray(len(targets) / (classes * counts), dtype=np.float32)
    counts = targets.sum(0).clip(min=1)
    return np.asarray(((len(targets) - counts) / counts).clip(1, 100), dtype=np.float32)


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "big") >> 1
