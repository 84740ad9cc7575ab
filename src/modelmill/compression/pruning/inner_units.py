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
    :raises ModelError: if a layer does not have linear layers that widen and one that narrows.
    """
    small = copy.deepcopy(model).eval()
    config: Any = small.config
    parts = [_feed_forward(layer, config) for layer in layer_list(small.encoder)[1]]
    inner = parts[0][1].in_features
    count = max(1, round(keep * inner))
    scores = unit_importance(small, [down for _, down in parts], rows=rows, importance=importance)
    for (ups, down), score in zip(parts, scores, strict=True):
        kept = torch.topk(score, count).indices.sort().values
        for up in ups:  # a gate in the same layer (ModernBERT) has the outputs behind the units'
            keep_outputs(up, kept if up.out_features == inner else torch.cat([kept, kept + inner]))
        keep_inputs(down, kept)
    setattr(config, "intermediate_size" if hasattr(config, "intermediate_size") else "hidden_dim", count)
    return small


def _feed_forward(layer: nn.Module, config: Any) -> tuple[list[nn.Linear], nn.Linear]:
    """Find the linear layers that widen, perhaps with a gate, and the one that narrows."""
    hidden = config.hidden_size
    # Attention that has lost heads has layers of such sizes, too.
    attention = find_attention(layer)
    taken = {id(part) for part in attention.linear} if attention else set()
    linear = [part for part in layer.modules() if isinstance(part, nn.Linear) and id(part) not in taken]
    down = [part for part in linear if part.out_features == hidden != part.in_features]
    if len(down) == 1:
        sizes = (down[0].in_features, 2 * down[0].in_features)
        beside = next(list(part.children()) for part in layer.modules() if down[0] in part.children())
        # BERT has the two in modules of their own.
        for group in (beside, linear):
            ups = [part for part in group if isinstance(part, nn.Linear) and part.out_features in sizes]
            ups = [part for part in ups if part.in_features == hidden]
            if ups:
                return ups, down[0]
    raise ModelError(
        "inner units can be pruned where a layer has linear layers that widen and one that narrows",
        got=config.model_type,
        remedy="set widths: [1.0], or take a base model of a BERT-like architecture",
    )
