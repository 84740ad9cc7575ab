"""Heads on a trunk's outputs: many of one kind are evaluated together, and none knows of the others.

===========  ===================  ==================================================================
kind         reads                weights in ``head.safetensors``
===========  ===================  ==================================================================
linear       features             ``weight (outputs, features)``, ``bias (outputs,)``
mlp          features             ``hidden.weight (width, features)``, ``hidden.bias (width,)``, then
                                  ReLU, ``weight (outputs, width)``, ``bias (outputs,)``
attention    features of tokens   ``query (features,)`` weighs the tokens by the softmax of its scaled
                                  dot products, ``weight (outputs, features)``, ``bias (outputs,)``
===========  ===================  ==================================================================

Each number is a dot product of its own (``numpy.vecdot``), not a tile of a matrix product: so the bits of an
answer depend neither on the rows nor on the heads that are computed with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo, HeadKind
from modelmill.tasks.calibration import FloatArray

Weights = Mapping[str, FloatArray]

WEIGHTS_FILE = "head.safetensors"


class HeadStack(ABC):
    """Heads of one kind and one width, stacked.

    :param heads: weights of each head; at least one.
    """

    reads: ClassVar[str]
    """The trunk's output that such heads read: ``features`` or ``states``."""
    shapes: ClassVar[Mapping[str, tuple[str, ...]]]
    """Dimensions of each weight."""

    def __init__(self, heads: Sequence[Weights]) -> None:
        self.weight = _joined(heads, "weight")  # (columns, inputs)
        self.bias = _joined(heads, "bias")  # (columns,)
        self.owner = np.repeat(np.arange(len(heads)), [len(head["bias"]) for head in heads])  # (columns,)

    @abstractmethod
    def __call__(self, output: FloatArray) -> FloatArray:
        """Return the logits of all heads for one row.

        :param output: what the trunk made of the row.
        :return: ``(columns,)``: the heads' logits one after the other.
        """


class LinearStack(HeadStack):
    """Linear heads."""

    reads = "features"
    shapes = {"weight": ("outputs", "features"), "bias": ("outputs",)}

    def __call__(self, output: FloatArray) -> FloatArray:
        """See :meth:`HeadStack.__call__`."""
        result: FloatArray = np.vecdot(self.weight, output) + self.bias
        return result


class MlpStack(HeadStack):
    """Heads with one hidden layer.

    :param heads: weights of each head, all of one width.
    """

    reads = "features"
    shapes = {
        "hidden.weight": ("width", "features"),
        "hidden.bias": ("width",),
        "weight": ("outputs", "width"),
        "bias": ("outputs",),
    }

    def __init__(self, heads: Sequence[Weights]) -> None:
        super().__init__(heads)
        self.hidden = _joined(heads, "hidden.weight")  # (heads * width, features)
        self.hidden_bias = _joined(heads, "hidden.bias")  # (heads * width,)
        self.width = len(heads[0]["hidden.bias"])

    def __call__(self, output: FloatArray) -> FloatArray:
        """See :meth:`HeadStack.__call__`."""
        hidden = np.maximum(np.vecdot(self.hidden, output) + self.hidden_bias, 0)
        hidden = hidden.reshape(-1, self.width)  # (heads, width)
        result: FloatArray = np.vecdot(self.weight, hidden[self.owner]) + self.bias
        return result


class AttentionStack(HeadStack):
    """Heads that weigh the tokens themselves."""

    reads = "states"
    shapes = {"query": ("features",), "weight": ("outputs", "features"), "bias": ("outputs",)}

    def __init__(self, heads: Sequence[Weights]) -> None:
        super().__init__(heads)
        self.query = np.stack([head["query"] for head in heads])  # (heads, features)
        self.scale = np.float32(self.query.shape[1] ** -0.5)

    def __call__(self, output: FloatArray) -> FloatArray:
        """See :meth:`HeadStack.__call__`."""
        scores = np.vecdot(self.query[:, None, :], output[None]) * self.scale  # (heads, tokens)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        turned = np.ascontiguousarray(output.T)  # (features, tokens)
        pooled = np.vecdot(weights[:, None, :], turned[None])  # (heads, features)
        result: FloatArray = np.vecdot(self.weight, pooled[self.owner]) + self.bias
        return result


STACKS: Mapping[HeadKind, type[HeadStack]] = {
    "linear": LinearStack,
    "mlp": MlpStack,
    "attention": AttentionStack,
}
"""What evaluates heads, by their kind."""


def load_head(folder: Path, info: BundleInfo) -> Weights:
    """Load a head's weights, and check that they are those of its kind.

    :param folder: the head's bundle.
    :param info: what it says of itself.
    :return: the weights by name, float32.
    :raises ModelError: if they cannot be read or have other names or shapes.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / WEIGHTS_FILE
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{WEIGHTS_FILE} must be a safetensors file ({type(error).__name__})",
            got=str(path),
            remedy="make the model again with modelmill",
        ) from error
    if info.head is None:
        raise ModelError("a head's bundle says of what kind it is", got=str(folder), remedy="make it again")
    sizes = {"outputs": info.outputs, "features": info.features}
    wanted = STACKS[info.head].shapes
    width = weights["hidden.bias"].shape if "hidden.bias" in weights else (None,)
    sizes["width"] = width[0] if len(width) == 1 else None
    expected = {name: tuple(sizes[dimension] for dimension in shape) for name, shape in wanted.items()}
    found = {name: value.shape for name, value in weights.items()}
    if found != expected or any(value.dtype != np.float32 for value in weights.values()):
        raise ModelError(
            f"{WEIGHTS_FILE} must hold the weights of a {info.head} head, {expected}",
            got=found,
            remedy="make the model again with modelmill",
        )
    return weights


def _joined(heads: Sequence[Weights], name: str) -> FloatArray:
    return np.ascontiguousarray(np.concatenate([head[name] for head in heads]))
