"""An encoder with a masked language model's head: what continued pretraining trains, and what it leaves.

Some tokens of a text are hidden, and the head says which they were (J. Devlin, M.-W. Chang, K. Lee and
K. Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", 2019, arXiv
1810.04805). The head is the architecture's own, and runs on the hidden positions alone: with 30,000 words it
costs as much a token as six layers of a small encoder.

A bundle of format ``encoder`` is what comes out: the files of a base model, so that whatever takes a base
model takes it, with ``modelmill.json`` and ``texts.npy``, the keys of the texts that it has learned from.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from modelmill.errors import ModelError
from modelmill.models.base_model import load_base_model
from modelmill.models.base_model_folder import locate_base_model
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import mean_over_tokens, plain_config
from modelmill.models.trainable import TrainableModel

TEXTS_FILE = "texts.npy"
"""Keys of the texts that an encoder has learned from, ``uint64``, rising."""
COLUMNS = 2
"""Columns of a language model's output that stand before the features."""

_REPLACED, _RANDOM = 0.8, 0.1
"""Of the hidden positions, the shares that become the mask token and a random one; the rest stays."""


@dataclass(frozen=True)
class Vocabulary:
    """What hiding has to know of a tokenizer."""

    mask: int
    """Id of the mask token."""
    special: tuple[int, ...]
    """Ids that are never hidden."""
    size: int
    """Number of ids."""


class MaskedLanguageModel(TrainableModel):
    """An encoder that is told texts with some of their tokens hidden.

    In training, what is hidden is drawn anew each time from PyTorch's generator. In evaluation it follows
    from the text alone, so that two models are asked the same.

    :param model: one of transformers' models for masked language modelling.
    :param vocabulary: of its tokenizer.
    :param share: share of the tokens that are hidden.
    """

    head: PreTrainedModel
    """The architecture's own model, whose encoder is replaced by what hands on hidden states."""
    special: torch.Tensor
    shares_embeddings = True

    def __init__(self, model: PreTrainedModel, vocabulary: Vocabulary, *, share: float) -> None:
        super().__init__()
        self.encoder = model.base_model
        self.part = model.base_model_prefix
        setattr(model, self.part, _Given())
        self.head = model
        self.vocabulary = vocabulary
        self.share = share
        self.register_buffer("special", torch.tensor(vocabulary.special), persistent=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Hide some tokens of each text, and say how well they are found.

        :param input_ids: ``(batch, tokens)``.
        :param attention_mask: ``(batch, tokens)``; 1 where there is a token, 0 where there is padding.
        :return: ``(batch, 2 + hidden)``: the cross entropy of the hidden tokens in nats, summed; how many
            there are; and the mean over the tokens of what the encoder made of the text so hidden.
        """
        asked, shown = self._hide(input_ids, attention_mask)
        hidden = self.encoder(input_ids=shown, attention_mask=attention_mask)[0]  # (batch, tokens, hidden)
        rows, _ = torch.nonzero(asked, as_tuple=True)  # (asked,)
        logits = self.head(inputs_embeds=hidden[asked][None]).logits[0]  # (asked, vocabulary)
        each = functional.cross_entropy(logits.float(), input_ids[asked], reduction="none")  # (asked,)
        entropy = each.new_zeros(len(input_ids)).index_add(0, rows, each)
        features = mean_over_tokens(hidden, attention_mask).float()
        return torch.cat([entropy[:, None], asked.sum(1, keepdim=True).float(), features], dim=1)

    def features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return what a trunk makes of texts of which nothing is hidden, ``(batch, hidden)``."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        return mean_over_tokens(hidden, attention_mask).float()

    def _hide(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return which positions are asked for, and the ids that are shown, both ``(batch, tokens)``."""
        chosen, kind = (self._drawn(ids), self._drawn(ids)) if self.training else _of_text(ids, mask)
        asked = (chosen < self.share) & (mask == 1) & ~torch.isin(ids, self.special)
        others = (
            torch.randint(self.vocabulary.size, ids.shape, device=ids.device)
            if self.training
            else (kind * self.vocabulary.size * 7919).long() % self.vocabulary.size
        )
        shown = torch.where(asked & (kind < _REPLACED), self.vocabulary.mask, ids)
        return asked, torch.where(asked & (kind >= 1 - _RANDOM), others, shown)

    def _drawn(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.rand(ids.shape, device=ids.device)


class _Given(nn.Module):
    """Stands in an architecture's place for its encoder, and hands on what that has made already."""

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=cast("torch.FloatTensor", inputs_embeds))


def _of_text(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two numbers in [0, 1) for each position that depend on the text alone, not on its padding."""
    places = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    whole = (ids * mask * places).sum(1, keepdim=True)  # (batch, 1)
    seed = (ids * 31 + places * 1_000_003 + whole * 8_191) & 0xFFFFFFFF
    found = []
    for _ in range(2):
        # The mixing of S. Vigna's splitmix, in 32 bits: signed integers of 64 bits hold each product.
        seed = (seed + 0x9E3779B9) & 0xFFFFFFFF
        mixed = ((seed ^ (seed >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        mixed = ((mixed ^ (mixed >> 15)) * 0x5BD1E995) & 0xFFFFFFFF
        found.append((mixed ^ (mixed >> 16)).double() / 2**32)
    return found[0], found[1]


def read_vocabulary(tokenizer: Path) -> Vocabulary:
    """Return what hiding has to know of a tokenizer.

    :param tokenizer: ``tokenizer.json``.
    :return: the ids.
    :raises ModelError: if it has no mask token.
    """
    from modelmill.tokens.tokenizer import load_tokenizer

    known = load_tokenizer(tokenizer.parent, max_tokens=8)
    added = {id_: token for id_, token in known.get_added_tokens_decoder().items() if token.special}
    masks = [id_ for id_, token in added.items() if "mask" in token.content.lower()]
    if len(masks) != 1:
        raise ModelError(
            "a masked language model's tokenizer has one special token that stands for a hidden word, such "
            "as [MASK] or <mask>",
            got=f"{len(masks)} in {tokenizer}",
            remedy="take a base model that was pretrained as a masked language model",
        )
    size = known.get_vocab_size()
    return Vocabulary(masks[0], tuple(sorted(added)), size)


def load_language_model(
    name: str, *, max_tokens: int, dropout: float, share: float
) -> tuple[MaskedLanguageModel, Path, bool]:
    """Load a base model with its language model's head.

    :param name: folder, bundle of format ``encoder``, or Hugging Face id of a base model of texts.
    :param max_tokens: tokens that it has to be able to read.
    :param dropout: dropout inside the encoder while it is trained.
    :param share: share of the tokens that are hidden.
    :return: the model; its ``tokenizer.json``; and whether its head is new: the checkpoint has none, and it
        starts from random weights (of PyTorch's generator) and the embeddings, to which its last layer is
        tied.
    :raises ModelError: as :func:`~modelmill.models.base_model.load_base_model`; or its tokenizer has no mask
        token.
    """
    base = load_base_model(name, max_tokens=max_tokens, dropout=dropout)  # checks the files and the weights
    vocabulary = read_vocabulary(base.tokenizer)
    logging.set_verbosity_error()  # type: ignore[no-untyped-call] # transformers has no types here
    model, found = AutoModelForMaskedLM.from_pretrained(
        str(locate_base_model(name)),
        config=base.encoder.config,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    prefix = f"{model.base_model_prefix}."
    # An old file may lack a bias that begins with zeros.
    new = any(not key.startswith(prefix) and key.endswith("weight") for key in found["missing_keys"])
    if new:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    language_model: PreTrainedModel = model.float()
    return MaskedLanguageModel(language_model, vocabulary, share=share), base.tokenizer, new


def save_encoder(
    model: MaskedLanguageModel,
    folder: Path,
    *,
    tokenizer: Path,
    info: BundleInfo,
    keys: npt.NDArray[np.uint64],
) -> None:
    """Write a bundle of format ``encoder``: a base model, with its language model's head.

    :param model: the model, on the CPU; it cannot be trained afterwards.
    :param folder: where to; replaced if it exists.
    :param tokenizer: ``tokenizer.json`` to copy.
    :param info: what the bundle says of itself.
    :param keys: of the texts that it has learned from, rising.
    """
    whole = model.head
    setattr(whole, model.part, model.encoder)
    save_encoder_only(whole, folder, tokenizer=tokenizer, info=info, keys=keys)


def save_encoder_only(
    whole: PreTrainedModel,
    folder: Path,
    *,
    tokenizer: Path,
    info: BundleInfo,
    keys: npt.NDArray[np.uint64],
) -> None:
    """Write a bundle of format ``encoder`` of what there is: with a language model's head, or without one.

    :param whole: one of transformers' models, on the CPU.
    :param folder: where to; replaced if it exists.
    :param tokenizer: ``tokenizer.json`` to copy.
    :param info: what the bundle says of itself.
    :param keys: of the texts that it has learned from without labels, rising.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draft = folder.with_name(f".{folder.name}-weights")
    whole.save_pretrained(draft, max_shard_size="1TB")
    (draft / "model.safetensors").rename(folder / "model.safetensors")
    shutil.rmtree(draft)
    (folder / "config.json").write_text(json.dumps(plain_config(whole.config), indent=2, sort_keys=True))
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    np.save(folder / TEXTS_FILE, keys, allow_pickle=False)
    info.save(folder)


def read_text_keys(folder: Path) -> npt.NDArray[np.uint64]:
    """Return the keys of the texts that an encoder has learned from.

    :param folder: a bundle of format ``encoder``.
    :return: rising, ``(texts,)``.
    :raises ModelError: if the file holds anything else.
    """
    try:
        keys: npt.NDArray[np.uint64] = np.load(folder / TEXTS_FILE, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{TEXTS_FILE} must hold the keys of the texts that were read ({type(error).__name__})",
            got=str(folder),
            remedy="make the model again with modelmill",
        ) from error
    if keys.dtype != np.uint64 or keys.ndim != 1:
        raise ModelError(
            f"{TEXTS_FILE} must hold a row of whole numbers of 64 bits",
            got=f"{keys.dtype} of shape {keys.shape} in {folder}",
            remedy="make the model again with modelmill",
        )
    return keys
