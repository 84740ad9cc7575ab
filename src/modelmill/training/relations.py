"""The loss that an objective adds to that of the answers: none, or the attention relations of MiniLMv2.

W. Wang, H. Bao, S. Huang, L. Dong and F. Wei, "MiniLMv2: Multi-Head Self-Attention Relation Distillation for
Compressing Pretrained Transformers" (2020, arXiv 2012.15828). The queries of the last layer are compared with
each other, and so are its keys and its values, by scaled dot products and a softmax. The loss is the
Kullback-Leibler divergence between these distributions of teacher and student. The features of all attention
heads are split into *relation heads*, so teacher and student may differ in heads and width. A teacher's
relations are too large to keep (a few hundred kilobytes a text): the teacher runs on each batch.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelmill.errors import ConfigError, ModelError
from modelmill.models.attention import attentions
from modelmill.models.classifier import Classifier, collate, load_classifier
from modelmill.models.encoder import layer_list
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.tokens.tokenizer import tokenizer_digest
from modelmill.training.losses import Loss
from modelmill.training.options import ObjectiveOptions, Relations, SoftLabels
from modelmill.training.teacher import Teacher

_KINDS = 3
"""Queries, keys, values."""
_MASKED = -1e4
"""Added to the scores of padding."""


def objective_loss(
    options: ObjectiveOptions,
    student: Classifier,
    teacher: Teacher,
    tokens: Tokens,
    *,
    tokenizer_folder: Path,
    max_tokens: int,
) -> contextlib.AbstractContextManager[Loss | None]:
    """Return the loss that is added to that of the answers.

    :param options: the objective.
    :param student: the model that is trained.
    :param teacher: the model that it learns from.
    :param tokens: the train rows, as the student's encoder reads them.
    :param tokenizer_folder: folder with the student's ``tokenizer.json``.
    :param max_tokens: tokens of a text that the student's encoder reads.
    :return: a context in which the loss can be used; None: no further loss.
    :raises ModelError: if the teacher has another tokenizer, or reads fewer tokens.
    """
    if isinstance(options, SoftLabels):
        return contextlib.nullcontext()
    if tokenizer_digest(teacher.folder) != tokenizer_digest(tokenizer_folder):
        raise ModelError(
            "teacher and student must have the same tokenizer where relations between tokens are learned",
            got=f"another tokenizer.json in {teacher.name}",
            remedy="set objective: {kind: soft_labels}, or take a teacher with the student's tokenizer",
        )
    limit = teacher.info.encoder_tokens or teacher.info.max_tokens
    if max_tokens > limit:
        raise ModelError(
            f"a teacher of relations must read as many tokens as its student, {max_tokens}",
            got=limit,
            remedy=f"lower max_tokens to at most {limit}",
        )
    return relation_loss(options, student, load_classifier(teacher.folder), tokens)


@contextlib.contextmanager
def relation_loss(
    config: Relations, student: Classifier, teacher: Classifier, tokens: Tokens
) -> Iterator[Loss]:
    """Compare the last layers of teacher and student.

    :param config: relation heads and weight.
    :param student: the model that is trained; the loss is that of its last forward pass.
    :param teacher: the model that it learns from.
    :param tokens: the train rows, as both encoders read them.
    :yield: the loss.
    :raises ConfigError: if the number of features is not a multiple of the number of relation heads.
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
    """Return the divergence of a student's relations from its teacher's, averaged over heads and tokens.

    :param student: its queries, keys or values, ``(batch, tokens, features)``.
    :param teacher: the teacher's; the number of features may differ.
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
    split = (
        values.float().reshape(*values.shape[:2], heads, -1).transpose(1, 2)
    )  # (batch, heads, tokens, features)
    scores = split @ split.transpose(2, 3) / math.sqrt(split.shape[3])
    scores = scores + (1 - mask.to(scores.dtype))[:, None, None, :] * _MASKED
    return torch.log_softmax(scores, dim=-1)


@dataclass
class _Watch:
    """Queries, keys and values of an encoder's last layer for the last batch."""

    parts: tuple[nn.Linear, ...]
    """The layers that compute them."""
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
