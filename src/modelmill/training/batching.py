"""Which rows an optimizer step sees, and which of them are computed together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelmill.tokens.token_ids import Places

_POOL_BATCHES = 20
"""Rows are sorted by length within pools of so many batches: little padding, and batches still vary."""
_PASS_TOKENS = 64
"""Cost of another pass over the layers on a CPU, beside that of its tokens, counted in tokens."""


def batches(lengths: npt.NDArray[np.int64], *, size: int, seed: int, epoch: int) -> list[Places]:
    """Return one epoch's batches: every row once, rows of similar length together, in random order.

    :param lengths: tokens of each row, ``(rows,)``.
    :param size: rows per batch.
    :param seed: of the training.
    :param epoch: from 0; each epoch has another order.
    :return: places of the rows of each batch, ``(batch,)``.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    pools = np.arange(len(order)) // (size * _POOL_BATCHES)
    order = order[np.lexsort((lengths[order], pools))]
    found = [order[start : start + size] for start in range(0, len(order), size)]
    return [found[index] for index in random.permutation(len(found))]


def parts(batch: Places, lengths: npt.NDArray[np.int64], *, most: int) -> list[Places]:
    """Divide a batch where padding would cost more than another pass over the layers.

    The division with the lowest cost, found by dynamic programming over the rows in order of length.

    :param batch: places of the rows, ``(batch,)``.
    :param lengths: tokens of each, ``(batch,)``.
    :param most: rows of a part at most.
    :return: places of the rows of each part, those of similar length together.
    """
    order = np.argsort(lengths, kind="stable")
    size, tall = len(order), lengths[order]
    least, cuts = np.zeros(size + 1), np.zeros(size + 1, dtype=np.int64)
    for end in range(1, size + 1):
        first = max(0, end - most)
        costs = least[first:end] + np.arange(end - first, 0, -1) * tall[end - 1] + _PASS_TOKENS
        cuts[end] = first + int(costs.argmin())
        least[end] = costs.min()
    found, end = [], size
    while end:
        found.append(batch[order[cuts[end] : end]])
        end = int(cuts[end])
    return found[::-1]
