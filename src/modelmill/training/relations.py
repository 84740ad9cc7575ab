"""Relations as an objective: which tokens belong together, as the teacher's last layer sees it.

W. Wang, H. Bao, S. Huang, L. Dong and F. Wei, "MiniLMv2: Multi-Head Self-Attention Relation Distillation for
Compressing Pretrained Transformers" (2020, arXiv 2012.15828). Queries are compared with queries, keys with
keys and values with values, by scaled dot products and a softmax; the student's distributions follow the
teacher's by their Kullback-Leibler divergence. The features of all attention heads are parted anew into
*relation heads*, so teacher and student may differ in their heads and their width. A teacher's relations are
too large to keep (a few hundred kilobytes a text), so the teacher reads each batch as well.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modelmill.errors import ConfigError
from modelmill.models.attention import attentions
from modelmill.models.classifier import Classifier, collate
from modelmill.models.encoder import layer_list
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.training.losses import Loss
from modelmill.training.options import Relations

_KINDS = 3
"""Queries, keys, values."""
_NOTHING = -1e4
"""Added to the scores of padding."""


@contextlib.contextmanager
def relation_loss(
    config: Relations, student: Classifier, teacher: Classifier, tokens: Tokens
) -> Iterator[Loss]:
    """Watch the last layers of teacher and student, and compare them.

    :param config: how.
    :param student: the model that is trained; the loss is of its last pass.
    :param teacher: reads the same tokens.
    :param tokens: the train rows, as the encoders read them.
    :yield: the loss.
    :raises ConfigError: if the features cannot be parted into so many relation heads.
    :raises ModelError: if an architecture has no queries, keys and values.
    """
    with _watched(student) as own, _watched(teacher.eval()) as wanted:
        heads = _relation_heads(config, own, wanted)

        def loss(logits: torch.Tensor, _targets: torch.Tensor, rows: Places) -> torch.Tensor:
            ids, mask = (part.to(logits.device) for part in collate(tokens, rows))
            with torch.no_grad():
                teacher.to(logits.device)(ids, mask)
            each = sum(
                divergence(ours, theirs, mask, heads=heads)
                for ours, theirs in zip(own.seen(), wanted.seen(), strict=True)
            )
            return config.weight * torch.as_tensor(each).mean()

        yield loss


def divergence(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, *, heads: int
) -> torch.Tensor:
    """Return how far a student's relations are from its teacher's, a mean over heads and tokens.

    :param student: its queries, keys or values, ``(batch, tokens, features)``.
    :param teacher: those of the teacher; the number of features may differ.
    :param mask: 1 where there is a token, ``(batch, tokens)``.
    :param heads: relation heads.
    :return: ``(batch,)``.
    """
    ours, theirs = (_relations(values, mask, heads) for values in (student, teacher))
    each = (theirs.exp() * (theirs - ours)).sum(-1).mean(1)  # (batch, tokens)
    return (each * mask).sum(1) / mask.sum(1).clamp(min=1)


def _relations(values: torch.Tensor, mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the logarithms of the relations, ``(batch, heads, tokens, tokens)``."""
    # In full precision, whatever the encoder computes in.
    parted = (
        values.float().reshape(*values.shape[:2], heads, -1).transpose(1, 2)
    )  # (batch, heads, tokens, features)
    scores = parted @ parted.transpose(2, 3) / math.sqrt(parted.shape[3])
    scores = scores + (1 - mask.to(scores.dtype))[:, None, None, :] * _NOTHING
    return torch.log_softmax(scores, dim=-1)


@dataclass
class _Watch:
    """What the last layer of an encoder made of the last batch."""

    parts: tuple[nn.Linear, ...]
    """Its queries, keys and values."""
    heads: int
    values: dict[int, torch.Tensor]

    def seen(self) -> list[torch.Tensor]:
        return [self.values[kind] for kind in range(_KINDS)]


@contextlib.contextmanager
def _watched(model: Classifier) -> Iterator[_Watch]:
    last = attentions(model.encoder, layer_list(model.encoder)[1])[-1]
    watch = _Watch(last.linear[:_KINDS], last.heads, {})

    def note(kind: int) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            watch.values[kind] = output

        return hook

    hooks = [part.register_forward_hook(note(kind)) for kind, part in enumerate(watch.parts)]
    try:
        yield watch
    finally:
        for entry in hooks:
            entry.remove()


def _relation_heads(config: Relations, student: _Watch, teacher: _Watch) -> int:
    heads = config.heads or teacher.heads
    widths = [watch.parts[0].out_features for watch in (teacher, student)]
    if any(width % heads for width in widths):
        fitting = next(count for count in range(heads, 0, -1) if math.gcd(*widths) % count == 0)
        raise ConfigError(
            "the number of relation heads must divide the attention features of teacher and student, "
            f"{widths[0]} and {widths[1]}",
            got=heads,
            remedy=f"set objective: {{kind: relations, heads: {fitting}}}",
        )
    return heads
