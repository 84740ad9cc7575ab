"""The ranks of a data-parallel training: they split each batch and sum the gradients.

Every rank plans the same batches and computes its share of each. Losses and gradients are already weighted by
their share of the batch, so they are summed over the ranks, and each rank makes the same step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed, nn

from modelmill.errors import TransientError
from modelmill.tokens.token_ids import Places
from modelmill.training.optimizer import Optimizer

T = TypeVar("T")


class Ranks:
    """One of the processes that train a model together.

    :param rank: its number, from 0. Rank 0 evaluates, saves and reports.
    :param count: number of ranks; with 1 every method returns what it is given.
    :param control: PyTorch's process group for :meth:`agreed`; None: the one that sums gradients.
    """

    def __init__(
        self, rank: int = 0, count: int = 1, control: distributed.ProcessGroup | None = None
    ) -> None:
        self.rank = rank
        self.count = count
        self._control = control

    @property
    def first(self) -> bool:
        """Whether this is the rank that evaluates, saves and reports."""
        return self.rank == 0

    def share(self, batch: Places, lengths: npt.NDArray[np.int64]) -> Places:
        """Return the rows of a batch that this rank computes, about as many tokens as the others.

        :param batch: places of the rows, ``(batch,)``.
        :param lengths: tokens of each, ``(batch,)``.
        :return: places of its rows; none where the batch has fewer rows than there are ranks.
        """
        if self.count == 1:
            return batch
        # Dealt by length in a zigzag, so that the ranks get about as many tokens.
        order = np.argsort(lengths, kind="stable")
        turns = np.concatenate([np.arange(self.count), np.arange(self.count)[::-1]])
        own: Places = np.sort(order[np.resize(turns, len(order)) == self.rank])
        return batch[own]

    def seed(self, seed: int, step: int) -> None:
        """Seed a step of this rank, so that a resumed training draws the same random numbers."""
        if self.count > 1:
            (number,) = np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(number))

    def summed(self, value: float, optimizer: Optimizer) -> float:
        """Sum the gradients of all ranks, and a value with them.

        :param value: the loss of this rank's rows.
        :param optimizer: its weights get the sums as their gradients.
        :return: the sum of the values.
        """
        if self.count == 1:
            return value
        if optimizer.rows:
            _sum_rows(optimizer.rows.weight)
        return _sum_all(value, optimizer.dense)

    def agreed(self, value: T) -> T:
        """Return the value of rank 0.

        :param value: of this rank.
        :return: that of rank 0.
        """
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, group=self._control, device=torch.device("cpu"))
        return values[0]

    def check_resumed(self, step: int) -> None:
        """Make sure that all ranks go on from the same checkpoint.

        :param step: of the checkpoint that this rank has read; 0 if it found none.
        :raises TransientError: if the first one has read another.
        """
        if (wanted := self.agreed(step)) != step:
            raise TransientError(
                f"rank {self.rank} must go on from the first rank's checkpoint, of step {wanted}",
                got=f"step {step}",
                remedy="look at the disk below MODELMILL_HOME; the next attempt reads it again",
            )


def _sum_all(value: float, weights: Sequence[nn.Parameter]) -> float:
    """Sum gradients in one message, followed by the number of ranks that have each one, and the value."""
    gradients = [weight.grad for weight in weights]
    has = weights[0].new_tensor([gradient is not None for gradient in gradients])
    parts = [
        torch.zeros_like(weight).reshape(-1) if gradient is None else gradient.reshape(-1)
        for weight, gradient in zip(weights, gradients, strict=True)
    ]
    flat = torch.cat([*parts, has, weights[0].new_tensor([value])])
    distributed.all_reduce(flat)
    *parts, has, total = torch.split(flat, [*(len(part) for part in parts), len(has), 1])
    for weight, part, owners in zip(weights, parts, has.tolist(), strict=True):
        # A weight without a gradient on any rank gets none, and so no weight decay.
        weight.grad = part.view_as(weight).to(weight.dtype) if owners else None
    return float(total)


def _sum_rows(table: torch.Tensor) -> None:
    """Sum the sparse gradients of embeddings; a rank without rows of the batch has none."""
    gradient = table.grad
    if gradient is None:
        gradient = torch.sparse_coo_tensor(
            torch.zeros(1, 0, dtype=torch.int64),
            table.new_zeros(0, table.shape[1]),
            table.shape,
            check_invariants=False,
        )
    gradient = gradient.coalesce()
    distributed.all_reduce(gradient)
    table.grad = gradient
