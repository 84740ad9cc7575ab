"""What the processes of one training share: each batch, the sum of the gradients, and what the first decides.

Every rank plans the same batches and computes its share of each. Losses and gradients are already weighted by
their share of the batch, so they are added up over the ranks, and each rank makes the same step.
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
    """One process among those that train a model together.

    :param rank: its number, from 0. The first one evaluates, saves and reports.
    :param count: how many they are. Where it is alone, it shares and changes nothing.
    :param talk: PyTorch's group for what they agree on; None: the one for gradients.
    """

    def __init__(self, rank: int = 0, count: int = 1, talk: distributed.ProcessGroup | None = None) -> None:
        self.rank = rank
        self.count = count
        self._talk = talk

    @property
    def first(self) -> bool:
        """Whether this is the rank that evaluates, saves and reports."""
        return self.rank == 0

    def share(self, batch: Places, lengths: npt.NDArray[np.int64]) -> Places:
        """Return the rows of a batch that this rank computes: like numbers of like lengths for each rank.

        :param batch: places of the rows, ``(batch,)``.
        :param lengths: tokens of each, ``(batch,)``.
        :return: places of its rows; none where the batch has fewer rows than there are ranks.
        """
        if self.count == 1:
            return batch
        # Dealt from the shortest to the longest, forth and back: whoever gets the shorter one gets the
        # longer one next.
        order = np.argsort(lengths, kind="stable")
        turns = np.concatenate([np.arange(self.count), np.arange(self.count)[::-1]])
        own: Places = np.sort(order[np.resize(turns, len(order)) == self.rank])
        return batch[own]

    def seed(self, seed: int, step: int) -> None:
        """Seed what is random in a step, by the rank too: resumed, it is random in the same way."""
        if self.count > 1:
            (number,) = np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(number))

    def summed(self, value: float, optimizer: Optimizer) -> float:
        """Add up the gradients of all ranks, and a value with them.

        :param value: the loss of this rank's rows.
        :param optimizer: has the weights; afterwards each has the sum as its gradient.
        :return: the sum of the values.
        """
        if self.count == 1:
            return value
        if optimizer.rows:
            _sum_rows(optimizer.rows.weight)
        return _sum_all(value, optimizer.dense)

    def agreed(self, value: T) -> T:
        """Return what the first rank says.

        :param value: what this rank would say.
        :return: the first one's value.
        """
        if self.count == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0, group=self._talk, device=torch.device("cpu"))
        return said[0]

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
    """Sum gradients in one message; behind them stand how many ranks have each one, and the value."""
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
        # What nobody has a gradient for stays as it is, without weight decay too.
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
