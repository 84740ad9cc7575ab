"""Structured pruning: whole units go, so that what stays is an ordinary, smaller model.

A method takes a classifier and returns a smaller one. Another distribution adds one by an entry point in the
group ``modelmill.pruning`` that names a :data:`PruningMethod`; its name is the configuration's ``method``.
Which units go follows from rows, see :mod:`modelmill.compression.importance`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from modelmill.compression.extensions import method_of
from modelmill.compression.importance import unit_importance
from modelmill.compression.options import PRUNING_GROUP, ImportanceConfig, TaylorImportance
from modelmill.errors import ModelError
from modelmill.models.attention import (
    KEPT_HEADS,
    attentions,
    find_attention,
    keep_heads,
    keep_inputs,
    keep_outputs,
)
from modelmill.models.classifier import Classifier
from modelmill.models.encoder import layer_list
from modelmill.training.loop import Encoded

_TAYLOR = TaylorImportance()


class PruningMethod(Protocol):
    """Takes units out of a classifier."""

    def __call__(
        self, model: Classifier, *, keep: float, rows: Encoded, importance: ImportanceConfig
    ) -> Classifier:
        """Take units out.

        :param model: the classifier; it must not be changed.
        :param keep: share of the units that stays, above 0 and at most 1.
        :param rows: labelled train rows.
        :param importance: how the importance of a unit is estimated.
        :return: a smaller classifier, in evaluation mode.
        """


def inner_units(
    model: Classifier, *, keep: float, rows: Encoded, importance: ImportanceConfig = _TAYLOR
) -> Classifier:
    """Keep the most important inner units of each layer's feed-forward part, as many in each layer.

    :param model: the classifier; it is not changed.
    :param keep: share that stays, above 0 and at most 1.
    :param rows: train rows; the importance is estimated on some of them.
    :param importance: how.
    :return: the narrower classifier, in evaluation mode.
    :raises ModelError: if a layer has no two linear layers that widen and narrow.
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


def attention_heads(
    model: Classifier, *, keep: float, rows: Encoded, importance: ImportanceConfig = _TAYLOR
) -> Classifier:
    """Keep the most important attention heads of all layers, at least one in each.

    The importance is compared between layers in units of the layer's own, as Michel et al. (2019) do.

    :param model: the classifier; it is not changed.
    :param keep: share of all heads that stays, above 0 and at most 1.
    :param rows: train rows; the importance is estimated on some of them.
    :param importance: how.
    :return: the classifier with fewer heads, in evaluation mode.
    :raises ModelError: if the architecture's heads cannot be told apart.
    """
    small = copy.deepcopy(model).eval()
    parts = attentions(small.encoder, layer_list(small.encoder)[1])
    scores = unit_importance(
        small, [part.output for part in parts], size=parts[0].size, rows=rows, importance=importance
    )
    scores = [score / score.norm().clamp(min=torch.finfo(score.dtype).tiny) for score in scores]
    best = [int(score.argmax()) for score in scores]
    wanted = max(len(parts), round(keep * sum(part.heads for part in parts)))
    others = sorted(
        (-float(score[head]), layer, head)
        for layer, score in enumerate(scores)
        for head in range(len(score))
        if head != best[layer]
    )
    kept = [[head] for head in best]
    for _, layer, head in others[: wanted - len(parts)]:
        kept[layer].append(head)
    for part, heads in zip(parts, kept, strict=True):
        keep_heads(part, torch.tensor(sorted(heads)))
    setattr(small.config, KEPT_HEADS, [len(heads) for heads in kept])
    return small


METHODS: Mapping[str, PruningMethod] = {"heads": attention_heads, "inner_units": inner_units}
"""modelmill's own."""


def pruning_named(name: str) -> PruningMethod:
    """Return a method.

    :param name: its name.
    :return: one of :data:`METHODS`, or one that another distribution adds.
    :raises ConfigError: if there is none of that name.
    """
    return method_of(name, METHODS, group=PRUNING_GROUP, of="pruning")


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
