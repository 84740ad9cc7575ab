"""Heads of many signals, trained together on what one trunk makes of the rows.

The heads are stacked: one matrix product answers for all of them. Each signal counts its own labelled rows
only, has its own loss, and is kept as it was after its own best epoch, so no head learns from another one.
(All go on until none gets better any more, so what is trained beside a head can let it go on for longer.)
Optimiser: AdamW, whose steps are element by element.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from modelmill.data.tokens import Places
from modelmill.errors import ModelError
from modelmill.serving.heads import FloatArray, Weights
from modelmill.training.examples import LabelledData
from modelmill.training.features import Features
from modelmill.training.options import AttentionHead, LinearHead, MlpHead

if TYPE_CHECKING:
    from modelmill.pipeline.component import StepContext
    from modelmill.training.signal_components import TrainHeadsConfig

_STATISTICS_ROWS = 20_000
_EVALUATION_ROWS = 1024
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
        :return: the weights that :mod:`modelmill.serving.heads` names.
        """


class LinearHeads(Stack):
    """Linear heads."""

    reads = "features"

    def __init__(self, config: LinearHead, names: Sequence[str], **sizes: int) -> None:
        super().__init__(config, names, **sizes)
        shape = (sizes["outputs"], sizes["features"])
        self.weight = self.stacked(*shape, scale=0.0)  # (heads, outputs, features)
        self.bias = self.stacked(sizes["outputs"], scale=0.0)  # (heads, outputs)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 (as all heads)
        """See :meth:`Stack.forward`."""
        flat = features @ self.weight.flatten(0, 1).T  # (batch, heads * outputs)
        return flat.view(-1, *self.bias.shape) + self.bias

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
        self.target, outputs = tasks[0].target, tasks[0].outputs
        self.stack = TRAINED_STACKS[type(config.head)](
            config.head, [task.label for task in tasks], features=features, outputs=outputs, seed=config.seed
        )
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
        return _Split(torch.from_numpy(targets), torch.from_numpy(weights))

    def losses(self, logits: torch.Tensor, split: _Split, rows: torch.Tensor) -> torch.Tensor:
        """Return each head's share of its mean loss, ``(heads,)``."""
        targets, weights = split.targets[rows], split.weights[rows]
        return (_LOSSES[self.target](logits, targets, self.class_weights) * weights).sum(0)

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
    """``(rows, heads, …)``; zeros where a row has no label."""
    weights: torch.Tensor
    """What a row counts in its head's mean loss, ``(rows, heads)``; 0 without a label."""


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
        parameters = [value for group in self.groups for value in group.parameters.values()]
        self.optimizer = torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )

    def run(self) -> dict[str, TrainedHead]:
        rows, size = len(self.rows["train"]), self.config.batch_size
        quiet = 0
        for epoch in range(1, self.config.epochs + 1):
            order = np.random.default_rng([self.config.seed, epoch]).permutation(rows)
            learned = [torch.zeros(len(group.tasks)) for group in self.groups]
            for start in range(0, rows, size):
                for total, part in zip(learned, self._step(order[start : start + size], rows), strict=True):
                    total += part
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

    def _step(self, batch: Places, rows: int) -> list[torch.Tensor]:
        features, mask = self._read("train", batch)
        at = torch.from_numpy(batch)
        losses = [
            group.losses(group.stack(features, mask), split, at)
            for group, split in zip(self.groups, self.splits["train"], strict=True)
        ]
        # Each head's batches add up to its mean loss; so scaled, a batch is worth as much as the whole.
        total = torch.cat(losses).sum() * (rows / len(batch))
        if not torch.isfinite(total):
            raise ModelError(
                "the heads' training loss must stay finite",
                got=f"learning_rate={self.config.learning_rate}",
                remedy="lower learning_rate, or look for labels that are no finite numbers",
            )
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return [loss.detach() for loss in losses]

    @torch.no_grad()
    def _evaluate(self) -> list[torch.Tensor]:
        found = [torch.zeros(len(group.tasks)) for group in self.groups]
        count = len(self.rows["validation"])
        for start in range(0, count, _EVALUATION_ROWS):
            batch = np.arange(start, min(start + _EVALUATION_ROWS, count))
            features, mask = self._read("validation", batch)
            for index, (group, split) in enumerate(zip(self.groups, self.splits["validation"], strict=True)):
                found[index] += group.losses(group.stack(features, mask), split, torch.from_numpy(batch))
        return found

    def _held(self, rows: Places) -> torch.Tensor | None:
        """Return standardised features of rows, ``(rows, features)``, if they are few enough to be held."""
        if self.reads == "states" or len(rows) * self.features.size > _HELD_NUMBERS:
            return None
        return torch.from_numpy((self.features.take(rows) - self.mean) / self.spread)

    def _read(self, name: str, batch: Places) -> tuple[torch.Tensor, torch.Tensor]:
        held = self.held[name]
        if held is not None:
            return held[torch.from_numpy(batch)], torch.ones(())
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


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    if logits.shape[-1] == 2:
        # The same for two classes, in half the time for many heads.
        other = (logits[..., 0] - logits[..., 1]) * (2 * targets - 1)
        return functional.softplus(other) * torch.where(targets > 0, weights[:, 1], weights[:, 0])
    losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    heads = torch.arange(len(weights)).expand(targets.shape)
    return losses.view(targets.shape) * weights[heads, targets]


def _binary(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    # The weight is that of a class's own rows; those of all others count 1.
    return (losses * torch.where(targets > 0, weights, torch.ones(()))).mean(2)


def _squared(logits: torch.Tensor, targets: torch.Tensor, _weights: torch.Tensor) -> torch.Tensor:
    return (logits[..., 0] - targets) ** 2


_LOSSES = {"class": _cross_entropy, "classes": _binary, "number": _squared}
"""From logits ``(batch, heads, outputs)``, targets and weights ``(heads, outputs)`` to losses
``(batch, heads)``, by kind of label."""


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
