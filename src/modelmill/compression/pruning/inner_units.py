"""The pruning method ``inner_units``: inner units of the feed-forward parts."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from modelmill.compression.options import Importance, TaylorImportance
from modelmill.compression.pruning.importance import unit_importance
from modelmill.errors import ModelError
from modelmill.models.attention import find_attention, keep_inputs, keep_outputs
from modelmill.models.classifier import Classifier
from modelmill.models.encoder import layer_list
from modelmill.training.rows import EncodedRows

_TAYLOR = TaylorImportance()


def inner_units(
    model: Classifier, *, keep: float, rows: EncodedRows, importance: Importance = _TAYLOR
) -> Classifier:
    """Keep the most important inner units of each layer's feed-forward part, the same number in each layer.

    :param model: the classifier; it is not changed.
    :param keep: share that stays, above 0 and at most 1.
    :param rows: labelled train rows; the importance is estimated on some of them.
    :param importance: how it is estimated.
    :return: the narrower classifier, in evaluation mode.
    :raises ModelError: if a layer does not have one linear layer that widens and one that narrows.
    """
    small = copy.deepcopy(model).eval()
    config: Any = small.config
    pairs = [_feed_forward(layer, config) for layer in layer_list(small.encoder)[1]]
    count = max(1, round(keep * pairs[0][0].out_features))
    scores = unit_importance(small, [down for _, down in pairs], rows=rows, importance=importance)
    for (up, down), score in zip(pairs, scores, strict=True):
        kept = torch.topk(score, count).indices.sort().values
        keep_outputs(up, kept)
        keep_inputs(down, kept)
    setattr(config, "intermediate_size" if hasattr(config, "intermediate_size") else "hidden_dim", count)
    return small


def _feed_forward(layer: nn.Module, config: Any) -> tuple[nn.Linear, nn.Linear]:
    """Find the linear layers that widen and narrow."""
    hidden = config.hidden_size
    attention = find_attention(layer)
    taken = {id(part) for part in attention.linear} if attention else set()
    linear = [
        module for module in layer.modules() if isinstance(module, nn.Linear) and id(module) not in taken
    ]
    up = [module for module in linear if module.in_features == hidden and module.out_features != hidden]
    down = [module for module in linear if module.out_features == hidden and module.in_features != hidden]
    if len(up) != 1 or len(down) != 1 or up[0].out_features != down[0].in_features:
        raise ModelError(
            "inner units can be pruned where a layer has one linear layer that widens and one that narrows",
            got=config.model_type,
            remedy="set widths: [1.0], or take a base model of a BERT-like architecture",
        )
    return up[0], down[0]
