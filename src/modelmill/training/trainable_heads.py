"""Heads of many signals as PyTorch modules: one matrix product answers for all of them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from modelmill.models.heads import Weights
from modelmill.tasks.calibration import FloatArray
from modelmill.training.options import AttentionHead, LinearHead, MlpHead


class TrainableHeads(nn.Module, ABC):
    """Heads of signals that have the same kind of label and the same number of outputs.

    :param options: of a head.
    :param names: the signals; each one's first weights depend on the seed and its name alone.
    :param features: features that a head reads.
    :param outputs: logits of a head.
    :param seed: of the training.
    """

    reads: ClassVar[str]
    by_feature: ClassVar[str]
    """Which of a head's weights has a number for each feature, ``(…, features)``."""
    starts_at_zero: ClassVar[bool] = False
    """Whether all weights do: then those of two classes are each other's, negated, after every step."""

    def __init__(self, options: Any, names: Sequence[str], *, features: int, outputs: int, seed: int) -> None:
        super().__init__()
        self.options = options
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


class LinearHeads(TrainableHeads):
    """Linear heads."""

    reads = "features"
    by_feature = "weight"
    starts_at_zero = True

    def __init__(self, options: LinearHead, names: Sequence[str], **sizes: int) -> None:
        super().__init__(options, names, **sizes)
        shape = (sizes["outputs"], sizes["features"])
        self.weight = self.stacked(*shape, scale=0.0)  # (heads, outputs, features)
        self.bias = self.stacked(sizes["outputs"], scale=0.0)  # (heads, outputs)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 (as all heads)
        """See :meth:`TrainableHeads.forward`."""
        flat = functional.linear(features, self.weight.flatten(0, 1), self.bias.flatten())
        return flat.view(-1, *self.bias.shape)  # of (batch, heads * outputs)

    def plain(self, weights: Mapping[str, FloatArray], mean: FloatArray, spread: FloatArray) -> Weights:
        """See :meth:`TrainableHeads.plain`."""
        weight = weights["weight"] / spread
        return {"weight": weight, "bias": weights["bias"] - weight @ mean}


class MlpHeads(TrainableHeads):
    """Heads with one hidden layer."""

    reads = "features"
    by_feature = "hidden.weight"

    def __init__(self, options: MlpHead, names: Sequence[str], **sizes: int) -> None:
        super().__init__(options, names, **sizes)
        features, outputs, width = sizes["features"], sizes["outputs"], options.width
        self.hidden = self.stacked(width, features, scale=(2 / features) ** 0.5)  # (heads, width, features)
        self.hidden_bias = self.stacked(width, scale=0.0)
        self.weight = self.stacked(outputs, width, scale=width**-0.5)  # (heads, outputs, width)
        self.bias = self.stacked(outputs, scale=0.0)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 (as all heads)
        """See :meth:`TrainableHeads.forward`."""
        flat = features @ self.hidden.flatten(0, 1).T  # (batch, heads * width)
        hidden = functional.relu(flat.view(-1, *self.hidden_bias.shape) + self.hidden_bias)
        return torch.einsum("bhw,how->bho", hidden, self.weight) + self.bias

    def plain(self, weights: Mapping[str, FloatArray], mean: FloatArray, spread: FloatArray) -> Weights:
        """See :meth:`TrainableHeads.plain`."""
        hidden = weights["hidden"] / spread
        return {
            "hidden.weight": hidden,
            "hidden.bias": weights["hidden_bias"] - hidden @ mean,
            "weight": weights["weight"],
            "bias": weights["bias"],
        }


class AttentionHeads(TrainableHeads):
    """Heads that weigh the tokens themselves."""

    reads = "states"

    def __init__(self, options: AttentionHead, names: Sequence[str], **sizes: int) -> None:
        super().__init__(options, names, **sizes)
        features, outputs = sizes["features"], sizes["outputs"]
        self.query = self.stacked(features, scale=0.02)  # (heads, features)
        self.weight = self.stacked(outputs, features, scale=0.02)  # (heads, outputs, features)
        self.bias = self.stacked(outputs, scale=0.0)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See :meth:`TrainableHeads.forward`."""
        scores = features @ self.query.T * features.shape[-1] ** -0.5  # (batch, tokens, heads)
        scores = scores.masked_fill(mask[..., None] == 0, float("-inf"))
        pooled = scores.softmax(dim=1).mT @ features  # (batch, heads, features)
        return torch.einsum("bhf,hof->bho", pooled, self.weight) + self.bias

    def plain(self, weights: Mapping[str, FloatArray], mean: FloatArray, spread: FloatArray) -> Weights:
        """See :meth:`TrainableHeads.plain`; the softmax removes what the mean adds to all scores."""
        weight = weights["weight"] / spread
        return {
            "query": weights["query"] / spread,
            "weight": weight,
            "bias": weights["bias"] - weight @ mean,
        }


TRAINABLE_HEADS: Mapping[type[Any], type[TrainableHeads]] = {
    LinearHead: LinearHeads,
    MlpHead: MlpHeads,
    AttentionHead: AttentionHeads,
}
"""Trainable heads by the type of their options."""


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\0{name}".encode()).digest()[:8], "big") >> 1
