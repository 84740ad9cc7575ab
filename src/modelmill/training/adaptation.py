"""Continued pretraining: an encoder reads more texts, without labels, and stays what it was for the rest.

Two things are learned at once. Some tokens are hidden and found again, as in the encoder's own pretraining
(S. Gururangan et al., "Don't Stop Pretraining", 2020, arXiv 2004.10964). And the features of a text of which
tokens are hidden stay near the features that the encoder gave of the whole text before: what many encoders
learned after their pretraining, that texts of like meaning lie together, is otherwise lost within a few
hundred steps. It costs no pass more, since the hidden text is read anyway.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from modelmill.datasets.distinct_texts import DistinctTexts, TextCounts
from modelmill.errors import DatasetError
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import all_logits, parameter_count
from modelmill.models.language_model import COLUMNS, MaskedLanguageModel, load_language_model, save_encoder
from modelmill.models.trainable import TrainableModel
from modelmill.tasks.base import Measures
from modelmill.tokens.texts import TextList
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.training.losses import Loss
from modelmill.training.options import AdaptationOptions
from modelmill.training.rows import EncodedRows
from modelmill.training.state import TrainingHistory
from modelmill.training.trainer import train
from modelmill.workspace import Workspace

LEAST_TEXTS = 100
"""Different texts to learn from at least: fewer teach an encoder nothing but themselves."""


@dataclass(frozen=True)
class AdaptedEncoder:
    """An encoder that has read more texts."""

    folder: Path
    """Its bundle, of format ``encoder``."""
    metrics: Mapping[str, float]
    """On the held-out texts, before and after; empty without such texts."""
    history: TrainingHistory
    counts: TextCounts


def check_texts(texts: DistinctTexts) -> None:
    """Make sure that there are texts to learn from.

    :param texts: the texts.
    :raises DatasetError: if they are fewer than :data:`LEAST_TEXTS`.
    """
    if len(texts.train) < LEAST_TEXTS:
        raise DatasetError(
            f"an encoder reads on from at least {LEAST_TEXTS} different texts that it has not learned from",
            got=str(texts.counts),
            remedy="add tables or columns, or lower held_out",
        )


def adapt_encoder(
    texts: DistinctTexts,
    options: AdaptationOptions,
    workspace: Workspace,
    *,
    learned_before: npt.NDArray[np.uint64],
) -> AdaptedEncoder:
    """Let an encoder read texts, resuming from the newest intact checkpoint of an attempt that died.

    The loss on the held-out texts chooses the epoch that is kept; without such texts it is the last.

    :param texts: the texts.
    :param options: how to train, and the base model.
    :param workspace: gets checkpoints, the bundle, metrics and the log.
    :param learned_before: keys of the texts that the base model has learned from, rising.
    :return: the encoder.
    :raises InputError: if the base model or the options cannot be used, or there are too few texts.
    """
    check_texts(texts)
    torch.manual_seed(options.seed)
    model, tokenizer, new_head = load_language_model(
        options.base_model, max_tokens=options.max_tokens, dropout=options.dropout, share=options.mask_share
    )
    _describe(model, texts, workspace, new_head=new_head)
    tokens = TextList(texts.train).tokens(tokenizer.parent, max_tokens=options.max_tokens)
    rows = EncodedRows(tokens, _old_features(model, tokens, wanted=options.keep_features > 0))
    held_out = _held_out(model, texts, tokenizer.parent, options)
    measure = functools.partial(measured, keep=options.keep_features)
    before: Measures = measure(model.eval(), held_out) if held_out else {}
    torch.manual_seed(options.seed)
    history = train(
        model,
        rows,
        validation=held_out,
        loss=adaptation_loss(options.keep_features, hidden=_hidden_tokens(model, tokens)),
        options=options,
        workspace=workspace,
        measure=measure,
    )
    metrics = _compared(before, history.best or {}, workspace)
    folder = workspace.workdir / "bundle"
    info = BundleInfo(
        format="encoder",
        text=options.columns[0],
        max_tokens=options.max_tokens,
        parameters=parameter_count(model.encoder),
    )
    keys = np.union1d(learned_before, texts.keys)
    save_encoder(model, folder, tokenizer=tokenizer, info=info, keys=keys)
    return AdaptedEncoder(folder, metrics, history, texts.counts)


def adaptation_loss(keep: float, *, hidden: float) -> Loss:
    """Return what is minimised: the entropy of a hidden token, and how far features have moved.

    :param keep: weight of the features, which may be 0.
    :param hidden: hidden tokens of a text on average: a sum over them, divided by a constant, adds up over
        parts of a batch.
    :return: the loss; its targets are the features of before, ``(batch, features)``.
    """

    def loss(outputs: torch.Tensor, targets: torch.Tensor, _rows: Places) -> torch.Tensor:
        entropy = outputs[:, 0].mean() / hidden
        if not keep:
            return entropy
        return entropy + keep * (1 - functional.cosine_similarity(outputs[:, COLUMNS:], targets)).mean()

    return loss


def measured(model: TrainableModel, rows: EncodedRows, *, keep: float) -> Measures:
    """Measure a language model on texts, with the same tokens hidden each time.

    :param model: a :class:`~modelmill.models.language_model.MaskedLanguageModel`, in evaluation mode.
    :param rows: the texts; their targets are the features of before.
    :param keep: weight of the features.
    :return: minus what :func:`adaptation_loss` minimises; ``loss``, nats for each hidden token;
        ``perplexity``, its exponential; ``features_kept``, the mean cosine of features and those of before.
    """
    outputs = torch.from_numpy(all_logits(model, rows.tokens))
    asked = float(outputs[:, 1].sum())
    loss = float(outputs[:, 0].sum()) / max(1.0, asked)
    targets = torch.from_numpy(rows.targets)
    kept = float(functional.cosine_similarity(outputs[:, COLUMNS:], targets).mean())
    return {
        "minus_loss": -(loss + keep * (1 - kept)),
        "loss": loss,
        "perplexity": math.exp(min(loss, 50.0)),
        "features_kept": kept,
    }


class _Features(nn.Module):
    """A language model as a trunk."""

    def __init__(self, model: MaskedLanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model.features(input_ids, attention_mask)


def _old_features(model: MaskedLanguageModel, tokens: Tokens, *, wanted: bool) -> npt.NDArray[np.float32]:
    """Return the features of whole texts before the training, ``(texts, features)``; without columns if not
    wanted.
    """
    if not wanted:
        return np.zeros((len(tokens), 0), dtype=np.float32)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = all_logits(_Features(model).to(device).eval(), tokens)
    model.cpu()
    return found


def _held_out(
    model: MaskedLanguageModel, texts: DistinctTexts, folder: Path, options: AdaptationOptions
) -> EncodedRows | None:
    if not texts.held_out:
        return None
    tokens = TextList(texts.held_out).tokens(folder, max_tokens=options.max_tokens)
    return EncodedRows(tokens, _old_features(model, tokens, wanted=True))


def _hidden_tokens(model: MaskedLanguageModel, tokens: Tokens) -> float:
    """Return how many tokens of a text are hidden on average."""
    special = np.isin(tokens.flat(), model.vocabulary.special).sum()
    return max(1.0, model.share * float(tokens.lengths.sum() - special) / len(tokens))


def _describe(
    model: MaskedLanguageModel, texts: DistinctTexts, workspace: Workspace, *, new_head: bool
) -> None:
    where = "GPU" if torch.cuda.is_available() else "CPU"
    workspace.log(str(texts.counts))
    workspace.log(
        f"{model.config.model_type} with {parameter_count(model.encoder):,} parameters, on the {where}"
    )
    if new_head:
        workspace.log(
            "the base model has no weights for the head that finds hidden words: it begins anew, and its "
            "last layer is tied to the embeddings"
        )


def _compared(before: Measures, after: Measures, workspace: Workspace) -> dict[str, float]:
    """Return the metrics before and after, and say them."""
    if not before or not after:
        return {}
    workspace.log(
        f"held-out texts: perplexity of hidden words {before['perplexity']:.1f} before, "
        f"{after['perplexity']:.1f} after; features of texts with hidden words have a cosine of "
        f"{before['features_kept']:.3f} before and {after['features_kept']:.3f} after with those of the "
        "whole texts before"
    )
    names = ("loss", "perplexity", "features_kept")
    sides = {"before": before, "after": after}
    return {f"held_out_{name}_{side}": found[name] for side, found in sides.items() for name in names}
