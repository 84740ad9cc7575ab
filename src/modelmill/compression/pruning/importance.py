"""The importance of a model's units, estimated on rows and not from the size of weights alone.

``taylor`` is the size of the first term of a Taylor series, how much the loss would change if the unit were
zero: activation times gradient, of each row and then summed (P. Molchanov et al., "Importance
Estimation for Neural Network Pruning", 2019, arXiv 1906.10771; for attention heads P. Michel, O. Levy and
G. Neubig, "Are Sixteen Heads Really Better than One?", 2019, arXiv 1905.10650).

``activation`` needs no labels: the size of a unit's activation times that of the weights that read it (M. Sun
et al., "A Simple and Effective Pruning Approach for Large Language Models", 2023, arXiv 2306.11695, summed
over the weights of a unit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from modelmill.compression.options import ActivationImportance, Importance, TaylorImportance
from modelmill.models.classifier import Classifier, collate
from modelmill.tasks.kinds import task_of
from modelmill.training.rows import EncodedRows

_ROWS = 256
_BATCH = 16


def unit_importance(
    model: Classifier,
    readers: Sequence[nn.Linear],
    *,
    size: int = 1,
    rows: EncodedRows,
    importance: Importance,
) -> list[torch.Tensor]:
    """Estimate how important units are.

    :param model: in evaluation mode; its gradients are lost.
    :param readers: for each group of units the linear layer whose inputs they are, in their order.
    :param size: number of neighbouring inputs that make one unit.
    :param rows: labelled rows; at most 256 of them are used.
    :param importance: how it is estimated.
    :return: for each group the importance of its units, ``(units,)``; each group has a scale of its own.
    """
    # Parameters that were frozen in training have no gradient, and stop those of the layers before them.
    model.requires_grad_(True)
    taken: dict[int, torch.Tensor] = {}

    def watch(place: int) -> Any:
        def hook(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            taken[place] = inputs[0]  # (batch, tokens, inputs)

        return hook

    hooks = [reader.register_forward_pre_hook(watch(place)) for place, reader in enumerate(readers)]
    try:
        found = _KINDS[type(importance)](model, readers, rows, taken)
    finally:
        for entry in hooks:
            entry.remove()
        model.zero_grad(set_to_none=True)
    return [_KINDS_OF_SUM[type(importance)](scores.reshape(len(scores), -1, size)) for scores in found]


def _taylor(
    model: Classifier, readers: Sequence[nn.Linear], rows: EncodedRows, taken: Mapping[int, torch.Tensor]
) -> list[torch.Tensor]:
    """Return activation times gradient of each row, for each reader ``(rows, inputs)``."""
    found: list[list[torch.Tensor]] = [[] for _ in readers]
    task = task_of(rows.target)
    for batch in _some_batches(rows):
        ids, mask = collate(rows.tokens, batch)
        with torch.enable_grad():
            # A sum over the rows, so that a short last batch counts for what it is.
            loss = task.loss(model(ids, mask), torch.from_numpy(rows.targets[batch]), reduction="sum")
            values = [taken[place] for place in range(len(readers))]
            gradients = torch.autograd.grad(loss, values)
        for scores, value, gradient in zip(found, values, gradients, strict=True):
            scores.append((value * gradient).detach().sum(dim=1))
    return [torch.cat(scores) for scores in found]


@torch.no_grad()
def _activation(
    model: Classifier, readers: Sequence[nn.Linear], rows: EncodedRows, taken: Mapping[int, torch.Tensor]
) -> list[torch.Tensor]:
    """Return the squared size of activation times weights, for each reader ``(1, inputs)``."""
    found = [torch.zeros(reader.in_features) for reader in readers]
    for batch in _some_batches(rows):
        ids, mask = collate(rows.tokens, batch)
        model(ids, mask)
        for place, scores in enumerate(found):
            values = taken[place] * mask[:, : taken[place].shape[1], None]
            scores += values.square().sum(dim=(0, 1))
    return [
        (scores * reader.weight.square().sum(0))[None, :]
        for scores, reader in zip(found, readers, strict=True)
    ]


def _some_batches(rows: EncodedRows) -> Iterator[Any]:
    chosen = np.linspace(0, len(rows.targets) - 1, min(_ROWS, len(rows.targets))).astype(np.int64)
    for start in range(0, len(chosen), _BATCH):
        yield chosen[start : start + _BATCH]


def _of_each_row(scores: torch.Tensor) -> torch.Tensor:
    """From ``(rows, units, size)`` to ``(units,)``: within a unit and a row terms may cancel each other."""
    return scores.sum(dim=2).abs().sum(dim=0)


def _of_squares(scores: torch.Tensor) -> torch.Tensor:
    return scores.sum(dim=(0, 2)).sqrt()


_KINDS: Mapping[type[Any], Callable[..., list[torch.Tensor]]] = {
    TaylorImportance: _taylor,
    ActivationImportance: _activation,
}
_KINDS_OF_SUM: Mapping[type[Any], Callable[[torch.Tensor], torch.Tensor]] = {
    TaylorImportance: _of_each_row,
    ActivationImportance: _of_squares,
}
