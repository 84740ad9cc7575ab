"""The optimizer: AdamW, and Adam row by row for a table of embeddings.

A batch has some hundred of the thirty thousand rows of the embeddings. Their gradient is kept sparse, and
only the rows in it are changed, each with its own moments and its own count of steps: the cost of a step
depends on the tokens of the batch, not on the vocabulary. The other rows stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


def learning_rate_factor(step: int, total: int, *, warmup: float) -> float:
    """Return the factor on the peak learning rate: it rises linearly, then falls linearly.

    :param step: steps done.
    :param total: steps in all.
    :param warmup: share of the steps over which the rate rises.
    :return: more than 0, at most 1.
    """
    share = (step + 1) / (total + 1)
    return share / warmup if share < warmup else (1 - share) / (1 - warmup)


class Optimizer:
    """AdamW over groups, and Adam over the rows of a table.

    :param groups: AdamW's, each with its own peak rate ``lr`` and ``weight_decay``.
    :param table: embeddings that are trained row by row; None: none are.
    :param rate: the table's peak rate.
    :param weight_decay: the table's.
    """

    def __init__(
        self,
        groups: Sequence[Mapping[str, Any]],
        *,
        table: nn.Embedding | None,
        rate: float,
        weight_decay: float,
    ) -> None:
        self.adamw = torch.optim.AdamW(map(dict, groups), betas=_BETAS, eps=_EPSILON, fused=True)
        self.peaks = [group["lr"] for group in self.adamw.param_groups]
        self.dense = [value for group in self.adamw.param_groups for value in group["params"]]
        self.rows = None if table is None else _Rows(table, rate=rate, weight_decay=weight_decay)

    @property
    def rate(self) -> float:
        """Learning rate of the first group."""
        return float(self.adamw.param_groups[0]["lr"])

    def step(self, factor: float, *, max_norm: float) -> None:
        """Clip the gradients, make a step, and remove them.

        :param factor: on every group's peak rate.
        :param max_norm: of all gradients together.
        """
        for group, peak in zip(self.adamw.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        gradients = [value.grad for value in self.dense if value.grad is not None]
        ids, values = self.rows.gradient() if self.rows else (None, None)
        norm = nn.utils.get_total_norm([*gradients, values] if values is not None else gradients)
        nn.utils.clip_grads_with_norm_(self.dense, max_norm, norm)
        self.adamw.step()
        if self.rows and ids is not None and values is not None:
            clipped = values * (max_norm / (norm + 1e-6)).clamp(max=1.0)
            self.rows.step(ids, clipped, factor)
        self.zero_grad()

    def zero_grad(self) -> None:
        """Remove all gradients."""
        self.adamw.zero_grad(set_to_none=True)
        if self.rows:
            self.rows.weight.grad = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the state, for a checkpoint."""
        state: Mapping[int, Mapping[str, torch.Tensor]] = self.adamw.state_dict()["state"]
        found = {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}
        return found | (
            {f"rows.{name}": value for name, value in self.rows.state().items()} if self.rows else {}
        )

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Go on from a state.

        :param tensors: what :meth:`tensors` returned.
        """
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            index, _, name = key.partition(".")
            if index == "rows" and self.rows:
                self.rows.state()[name].copy_(value)
            else:
                state.setdefault(int(index), {})[name] = value
        # The groups (rates, decay) follow from the configuration and are set anew at each step.
        self.adamw.load_state_dict({"state": state, "param_groups": self.adamw.state_dict()["param_groups"]})

    def close(self) -> None:
        """Turn the table back into one with dense gradients."""
        if self.rows:
            self.rows.table.sparse = False


class _Rows:
    """Adam with decoupled weight decay, row by row."""

    def __init__(self, table: nn.Embedding, *, rate: float, weight_decay: float) -> None:
        table.sparse = True
        self.table, self.weight = table, table.weight
        self.rate, self.weight_decay = rate, weight_decay
        self.mean = torch.zeros_like(self.weight, requires_grad=False)  # (vocabulary, hidden)
        self.square = torch.zeros_like(self.weight, requires_grad=False)  # (vocabulary, hidden)
        self.steps = torch.zeros(len(self.weight), device=self.weight.device)  # (vocabulary,)

    def state(self) -> dict[str, torch.Tensor]:
        return {"mean": self.mean, "square": self.square, "steps": self.steps}

    def gradient(self) -> tuple[torch.Tensor, torch.Tensor] | tuple[None, None]:
        """Return the rows that have one, ``(rows,)``, and their gradients, ``(rows, hidden)``."""
        if self.weight.grad is None:
            return None, None
        found = self.weight.grad.coalesce()
        return found.indices()[0], found.values()

    @torch.no_grad()
    def step(self, ids: torch.Tensor, gradient: torch.Tensor, factor: float) -> None:
        rate = self.rate * factor
        steps = (self.steps[ids] + 1)[:, None]  # (rows, 1)
        mean = self.mean[ids].lerp_(gradient, 1 - _BETAS[0])  # (rows, hidden)
        square = self.square[ids].lerp_(gradient.square(), 1 - _BETAS[1])  # (rows, hidden)
        self.steps[ids], self.mean[ids], self.square[ids] = steps[:, 0], mean, square
        mean /= 1 - _BETAS[0] ** steps
        square /= 1 - _BETAS[1] ** steps
        weight = self.weight[ids] * (1 - rate * self.weight_decay)
        self.weight[ids] = weight.addcdiv_(mean, square.sqrt_().add_(_EPSILON), value=-rate)
