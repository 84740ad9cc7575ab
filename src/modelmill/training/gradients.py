"""Gradients of a batch, added up over as many parts of it as memory asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from modelmill.errors import ModelError
from modelmill.models.classifier import collate
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.training.acceleration import Forward
from modelmill.training.batching import parts
from modelmill.training.losses import Loss
from modelmill.training.random_state import random_state, set_random_state
from modelmill.training.rows import EncodedRows


def batch_logits(model: Forward, tokens: Tokens, batch: Places, device: torch.device) -> torch.Tensor:
    """Return the logits of a batch, with gradients.

    :param model: the model, or what runs it.
    :param tokens: ids of all rows.
    :param batch: places of the rows, ``(batch,)``.
    :param device: where the model is.
    :return: ``(batch, outputs)``.
    """
    ids, mask = collate(tokens, batch)
    return model(ids.to(device), mask.to(device))


@dataclass
class GradientAccumulator:
    """Computes a batch in parts whose gradients add up to those of the whole."""

    rows: EncodedRows
    loss: Loss
    device: torch.device
    rows_at_once: int
    """Rows of a part at most; halved when memory runs out."""
    on_out_of_memory: Callable[[int], None]
    """Sets all gradients to zero; is told the new number of rows at once."""

    def add(self, model: Forward, batch: Places, *, of: int) -> float:
        """Add the gradients of some rows of a batch to those that the weights have.

        If a part does not fit into memory, all are computed again, in parts of half the size and with the
        same random numbers.

        :param model: what runs the model.
        :param batch: places of the rows, ``(rows,)``.
        :param of: rows of the whole batch, over which the loss is a mean.
        :return: the loss of these rows.
        :raises ModelError: if a single row does not fit into memory.
        """
        random = random_state(self.device)
        while True:
            try:
                return sum(self._part(model, part, len(part) / of) for part in self._parts(batch))
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if self.rows_at_once == 1:
                    raise ModelError(
                        "the model and one row must fit into memory",
                        got=f"{int(self.rows.tokens.lengths[batch].max())} tokens",
                        remedy="lower max_tokens, train fewer layers, or take a smaller base model",
                    ) from error
            # Outside the handler: the error's traceback holds the tensors that did not fit.
            self.rows_at_once = math.ceil(self.rows_at_once / 2)
            self.on_out_of_memory(self.rows_at_once)
            set_random_state(random, self.device)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _parts(self, batch: Places) -> list[Places]:
        most = self.rows_at_once
        if self.device.type == "cuda":
            return [batch[start : start + most] for start in range(0, len(batch), most)]
        return parts(batch, self.rows.tokens.lengths[batch], most=most)

    def _part(self, model: Forward, part: Places, share: float) -> float:
        logits = batch_logits(model, self.rows.tokens, part, self.device)  # (part, outputs)
        targets = torch.from_numpy(self.rows.targets[part]).to(self.device)
        loss = self.loss(logits, targets, part) * share
        value = float(loss.detach())
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call] # PyTorch has no types here
        return value


def _out_of_memory(error: BaseException) -> bool:
    # On the CPU PyTorch raises a plain RuntimeError.
    texts = ("can't allocate memory", "not enough memory")
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or any(text in str(error) for text in texts)
