"""Structured pruning: whole units go, so that what stays is an ordinary, smaller model.

The importance of a unit is the size of the first term of a Taylor series: how much the loss would change if
the unit were silent, estimated as activation times gradient, summed over rows (P. Molchanov et al.,
"Importance Estimation for Neural Network Pruning", 2019, arXiv 1906.10771). It comes from data, not from the
size of weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from modelmill.errors import ModelError
from modelmill.training.classifier import Classifier, collate, layer_list
from modelmill.training.loop import Encoded

_ROWS = 256
_BATCH = 16


def inner_units(model: Classifier, *, keep: float, rows: Encoded) -> Classifier:
    """Keep the most important inner units of each layer's feed-forward part, as many in each layer.

    :param model: the classifier; it is not changed.
    :param keep: share that stays, above 0 and at most 1.
    :param rows: train rows; the importance is estimated on some of them.
    :return: the narrower classifier, in evaluation mode.
    :raises ModelError: if a layer has no two linear layers that widen and narrow.
    """
    small = copy.deepcopy(model).eval()
    config: Any = small.config
    pairs = [_feed_forward(layer, config) for layer in layer_list(small.encoder)[1]]
    count = max(1, round(keep * pairs[0][0].out_features))
    scores = _importance(small, [down for _, down in pairs], rows)
    for (up, down), score in zip(pairs, scores, strict=True):
        kept = torch.topk(score, count).indices.sort().values
        _keep_outputs(up, kept)
        _keep_inputs(down, kept)
    setattr(config, "intermediate_size" if hasattr(config, "intermediate_size") else "hidden_dim", count)
    return small


def _feed_forward(layer: nn.Module, config: Any) -> tuple[nn.Linear, nn.Linear]:
    """Find the linear layers that widen and narrow."""
    hidden = config.hidden_size
    linear = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    up = [module for module in linear if module.in_features == hidden and module.out_features != hidden]
    down = [module for module in linear if module.out_features == hidden and module.in_features != hidden]
    if len(up) != 1 or len(down) != 1 or up[0].out_features != down[0].in_features:
        raise ModelError(
            "inner units can be pruned where a layer has one linear layer that widens and one that narrows",
            got=config.model_type,
            remedy="set widths: [1.0], or take a base model of a BERT-like architecture",
        )
    return up[0], down[0]


def _importance(model: Classifier, modules: list[nn.Linear], rows: Encoded) -> list[torch.Tensor]:
    """Return the importance of each input of some linear layers, ``(inputs,)`` each."""
    scores = [torch.zeros(module.in_features) for module in modules]
    taken: dict[int, torch.Tensor] = {}

    def watch(place: int) -> Any:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            taken[place] = inputs[0]  # (batch, tokens, inputs)
            inputs[0].retain_grad()

        return hook

    hooks = [module.register_forward_pre_hook(watch(place)) for place, module in enumerate(modules)]
    try:
        for batch in _some_batches(rows):
            ids, mask = collate(rows.tokens, batch)
            with torch.enable_grad():
                loss = functional.cross_entropy(model(ids, mask), torch.from_numpy(rows.targets[batch]))
                loss.backward()  # type: ignore[no-untyped-call]
            for place, values in taken.items():
                if values.grad is not None:
                    scores[place] += (values * values.grad).detach().sum(dim=(0, 1)).abs()
            model.zero_grad(set_to_none=True)
    finally:
        for entry in hooks:
            entry.remove()
    return scores


def _some_batches(rows: Encoded) -> Iterator[Any]:
    chosen = np.linspace(0, len(rows.targets) - 1, min(_ROWS, len(rows.targets))).astype(np.int64)
    for start in range(0, len(chosen), _BATCH):
        yield chosen[start : start + _BATCH]


def _keep_outputs(module: nn.Linear, kept: torch.Tensor) -> None:
    module.weight = nn.Parameter(module.weight.detach()[kept].clone())
    if module.bias is not None:
        module.bias = nn.Parameter(module.bias.detach()[kept].clone())
    module.out_features = len(kept)


def _keep_inputs(module: nn.Linear, kept: torch.Tensor) -> None:
    module.weight = nn.Parameter(module.weight.detach()[:, kept].clone())
    module.in_features = len(kept)
