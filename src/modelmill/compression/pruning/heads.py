"""The pruning method ``heads``: attention heads."""

from __future__ import annotations

import copy

import torch

from modelmill.compression.options import Importance, TaylorImportance
from modelmill.compression.pruning.importance import unit_importance
from modelmill.models.attention import KEPT_HEADS, attentions, keep_heads
from modelmill.models.classifier import Classifier
from modelmill.models.encoder import layer_list
from modelmill.training.rows import EncodedRows

_TAYLOR = TaylorImportance()


def attention_heads(
    model: Classifier, *, keep: float, rows: EncodedRows, importance: Importance = _TAYLOR
) -> Classifier:
    """Keep the most important attention heads of all layers, at least one in each.

    The importances of a layer are divided by their norm before layers are compared, as in Michel et al.
    (2019).

    :param model: the classifier; it is not changed.
    :param keep: share of all heads that stays, above 0 and at most 1.
    :param rows: labelled train rows; the importance is estimated on some of them.
    :param importance: how it is estimated.
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
