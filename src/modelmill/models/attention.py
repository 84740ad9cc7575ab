"""The parts of an encoder's attention, whatever the architecture calls them, and encoders with fewer heads.

A pruned layer has fewer heads than ``config.json`` says of the architecture. How many each layer has stands
beside it under :data:`KEPT_HEADS`, which :func:`fit_heads` follows when the encoder is built again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modelmill.errors import ModelError

KEPT_HEADS = "modelmill_heads"
"""Key of the encoder's configuration: number of heads of each layer; missing where none were taken out."""

_PROJECTIONS = (
    ("query", "key", "value"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
    ("query_proj", "key_proj", "value_proj"),
    ("q_proj", "k_proj", "v_proj"),
)
"""Names of the three projections: BERT and its kin, DistilBERT, MPNet, DeBERTa, EuroBERT."""
_COUNTS = ("num_attention_heads", "n_heads")
_POSITIONS = ("pos_key_proj", "pos_query_proj")
"""Projections of positions, where DeBERTa has them: one more part for each head."""
_SHARED = "relative_attention_bias"
"""A bias for each head that all layers share: their heads cannot differ."""


@dataclass(frozen=True)
class Attention:
    """The attention of one layer."""

    module: Any
    """What holds the three projections."""
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    """Takes the heads' answers, one after another, back to the layer's features."""
    heads: int

    @property
    def size(self) -> int:
        """Features of a head."""
        return self.value.out_features // self.heads

    @property
    def linear(self) -> tuple[nn.Linear, ...]:
        """All four layers."""
        return self.query, self.key, self.value, self.output


def find_attention(layer: nn.Module) -> Attention | None:
    """Find the attention of a layer.

    :param layer: a transformer layer.
    :return: its parts; None if they are not three projections and an output.
    """
    for module in layer.modules():
        for names in _PROJECTIONS:
            parts = [getattr(module, name, None) for name in names]
            if all(isinstance(part, nn.Linear) for part in parts):
                return _attention(layer, module, parts)
    return None


def _attention(layer: nn.Module, module: Any, parts: list[Any]) -> Attention | None:
    query, key, value = parts
    # The first that takes the heads' answers: it is built before the layer's other parts.
    outputs = (
        part
        for part in layer.modules()
        if isinstance(part, nn.Linear)
        and all(part is not one for one in parts)
        and (part.in_features, part.out_features) == (value.out_features, query.in_features)
    )
    output = next(outputs, None)
    counts = [getattr(module, name) for name in _COUNTS if isinstance(getattr(module, name, None), int)]
    size = getattr(module, "head_dim", None)  # what EuroBERT has instead of a number of heads
    heads = counts[0] if counts else value.out_features // size if size else 0
    alike = query.out_features == key.out_features == value.out_features
    positions = any(hasattr(module, name) for name in _POSITIONS)
    if output is None or not alike or positions or not heads or value.out_features % heads:
        return None
    return Attention(module, query, key, value, output, heads)


def has_heads(encoder: nn.Module, layers: Iterable[nn.Module]) -> bool:
    """Return whether heads can be taken out of an encoder's layers, each by itself.

    :param encoder: a transformers encoder.
    :param layers: its layers.
    :return: False where the architecture hides them, or all layers share something of each head.
    """
    shared = any(name.endswith(_SHARED) for name, _ in encoder.named_modules())
    return not shared and all(find_attention(layer) for layer in layers)


def attentions(encoder: Any, layers: Iterable[nn.Module]) -> list[Attention]:
    """Return the attention of each layer, for those who mean to change it.

    :param encoder: a transformers encoder.
    :param layers: its layers.
    :return: one for each layer.
    :raises ModelError: if the architecture has none whose heads can be told apart.
    """
    if not has_heads(encoder, layers):
        raise ModelError(
            "attention heads can be told apart where each layer has linear layers query, key, value and "
            "output, and no bias that layers share",
            got=encoder.config.model_type,
            remedy="leave the heads as they are, or take a base model of a BERT-like architecture",
        )
    return [found for layer in layers if (found := find_attention(layer))]


def keep_heads(attention: Attention, kept: torch.Tensor) -> None:
    """Take heads out of a layer.

    :param attention: the layer's; its parts are changed in place.
    :param kept: numbers of the heads that stay, rising, ``(heads,)``.
    """
    size = attention.size
    features = (kept[:, None] * size + torch.arange(size)).flatten()  # (kept heads x size,)
    for part in (attention.query, attention.key, attention.value):
        keep_outputs(part, features)
    keep_inputs(attention.output, features)
    for name in _COUNTS:
        if isinstance(getattr(attention.module, name, None), int):
            setattr(attention.module, name, len(kept))
    # What some architectures reshape by.
    if hasattr(attention.module, "all_head_size"):
        attention.module.all_head_size = len(features)


def fit_heads(encoder: Any, layers: Iterable[nn.Module]) -> None:
    """Give the layers of a new encoder as many heads as its configuration says.

    :param encoder: the encoder, with weights that are still to be loaded; changed in place.
    :param layers: its layers.
    :raises ModelError: if the configuration does not fit the architecture.
    """
    counts: Any = getattr(encoder.config, KEPT_HEADS, None)
    if counts is None:
        return
    parts = attentions(encoder, layers)
    fits = isinstance(counts, list) and len(counts) == len(parts)
    if not fits or not all(
        isinstance(count, int) and 1 <= count <= part.heads for part, count in zip(parts, counts, strict=True)
    ):
        raise ModelError(
            f"{KEPT_HEADS} in config.json must say for each layer how many heads it has, from 1 to "
            f"{parts[0].heads}",
            got=counts,
            remedy="make the model again with modelmill",
        )
    for part, count in zip(parts, counts, strict=True):
        keep_heads(part, torch.arange(count))


def keep_outputs(module: nn.Linear, kept: torch.Tensor) -> None:
    """Take outputs out of a linear layer.

    :param module: the layer; changed in place.
    :param kept: outputs that stay, rising, ``(outputs,)``.
    """
    module.weight = nn.Parameter(module.weight.detach()[kept].clone())
    if module.bias is not None:
        module.bias = nn.Parameter(module.bias.detach()[kept].clone())
    module.out_features = len(kept)


def keep_inputs(module: nn.Linear, kept: torch.Tensor) -> None:
    """Take inputs out of a linear layer.

    :param module: the layer; changed in place.
    :param kept: inputs that stay, rising, ``(inputs,)``.
    """
    module.weight = nn.Parameter(module.weight.detach()[:, kept].clone())
    module.in_features = len(kept)
