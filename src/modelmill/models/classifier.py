"""The model that is trained: a pretrained encoder, the mean over its tokens, a linear layer.

A lexical head may stand beside it, see :mod:`modelmill.models.lexical`. Its bundle holds ``config.json``
(the encoder's), ``model.safetensors`` (keys ``encoder.…``, ``head.…``, ``lexical.…``, ``scales``),
``tokenizer.json`` and ``modelmill.json``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PretrainedConfig

from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo
from modelmill.models.encoder import build_encoder, build_row_encoder, read_config, width
from modelmill.models.lexical import UNFITTED_SCALES, LexicalHead
from modelmill.models.trainable import TrainableModel
from modelmill.tokens.contents import CONTENTS
from modelmill.tokens.token_ids import Places, Tokens


class Classifier(TrainableModel):
    """Encoder, mean over the tokens, dropout, linear layer; and, once it is attached, a lexical head.

    :param encoder: a transformers encoder without a head, or a
        :class:`~modelmill.models.image_encoder.RowEncoder`.
    :param classes: number of classes.
    :param dropout: probability that a pooled feature is dropped in training.
    """

    head: nn.Linear
    lexical: LexicalHead | None
    scales: torch.Tensor
    """Weights of the encoder's logits and of the lexical head's, ``(2,)``; only with a lexical head."""

    def __init__(self, encoder: Any, *, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width(encoder), classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.lexical = None
        self.encoder_tokens: int | None = None

    def attach(self, lexical: LexicalHead, scales: tuple[float, float], *, encoder_tokens: int) -> None:
        """Add a lexical head.

        :param lexical: the head; it reads all tokens.
        :param scales: weights of the encoder's logits and of the head's.
        :param encoder_tokens: tokens that the encoder reads.
        """
        self.lexical = lexical
        self.register_buffer("scales", torch.tensor(scales))
        self.encoder_tokens = encoder_tokens

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the logits.

        :param input_ids: ``(batch, tokens)``.
        :param attention_mask: ``(batch, tokens)``; 1 where there is a token, 0 where there is padding.
        :return: ``(batch, classes)``.
        """
        read, mask = input_ids[:, : self.encoder_tokens], attention_mask[:, : self.encoder_tokens]
        hidden = self.encoder(input_ids=read, attention_mask=mask)[0]  # (batch, tokens, hidden)
        hidden = hidden.to(self.head.weight.dtype)  # a quantised encoder may give bf16
        # An image is one position, however many pixels it has.
        return self.combine(self.classify(hidden, mask[:, : hidden.shape[1]]), input_ids, attention_mask)

    def combine(
        self, logits: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """Add what the lexical head says, if there is one.

        :param logits: the encoder's, ``(batch, classes)``.
        :param input_ids: ``(batch, tokens)``.
        :param attention_mask: ``(batch, tokens)``.
        :return: ``(batch, classes)``.
        """
        if self.lexical is None:
            return logits
        words: torch.Tensor = self.lexical(input_ids, attention_mask)
        return self.scales[0] * logits + self.scales[1] * words

    def classify(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the logits of what the encoder made.

        :param hidden: ``(batch, tokens, hidden)``.
        :param attention_mask: ``(batch, tokens)``.
        :return: ``(batch, classes)``.
        """
        logits: torch.Tensor = self.head(self.dropout(mean_over_tokens(hidden, attention_mask)))
        return logits


def mean_over_tokens(hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over the tokens of each row.

    :param hidden: ``(batch, tokens, hidden)``.
    :param attention_mask: 1 where there is a token, ``(batch, tokens)``.
    :return: ``(batch, hidden)``.
    """
    weight = attention_mask[..., None].to(hidden.dtype)  # (batch, tokens, 1)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1.0)


def parameter_count(model: nn.Module) -> int:
    """Return the number of a model's weights, fitted tables included."""
    return sum(weight.numel() for weight in [*model.parameters(), *model.buffers()])


def write_weights(model: Classifier, path: Path) -> None:
    """Write a model's weights as they are."""
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, path)


def save_classifier(
    model: Classifier,
    folder: Path,
    *,
    tokenizer: Path,
    info: BundleInfo,
    write: Callable[[Classifier, Path], None] = write_weights,
) -> None:
    """Write a bundle.

    :param model: the model.
    :param folder: where to; replaced if it exists.
    :param tokenizer: ``tokenizer.json`` to copy, or ``image.json``.
    :param info: what the bundle says of itself.
    :param write: writes ``model.safetensors``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(plain_config(model.config), indent=2, sort_keys=True))
    write(model, folder / "model.safetensors")
    shutil.copyfile(tokenizer, folder / CONTENTS[info.content].file)  # its name may be another
    info.save(folder)


def plain_config(config: PretrainedConfig) -> dict[str, Any]:
    """Return what a bundle's ``config.json`` says: the same for the same weights, wherever they are from."""
    # The path it came from would make the same weights another bundle on another machine.
    content: dict[str, Any] = config.to_dict()
    for name in ("_name_or_path", "id2label", "label2id", "architectures"):
        content.pop(name, None)
    return content


def load_classifier(folder: Path) -> Classifier:
    """Load a ``torch`` bundle on the CPU, in evaluation mode; ModelError if its files do not fit."""
    info = BundleInfo.load(folder)
    if info.format != "torch":
        raise ModelError(
            "only a model of format torch can be trained, distilled or exported",
            got=info.format,
            remedy="take the output of fine_tune or distill",
        )
    model = empty_classifier(folder, info)
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelError(
            f"model.safetensors must hold the weights that config.json describes ({type(error).__name__})",
            got=str(folder),
            remedy="make the model again with modelmill",
        ) from error
    return model.eval()


def empty_classifier(folder: Path, info: BundleInfo) -> Classifier:
    """Build the model that a bundle describes, without its weights.

    :param folder: the bundle.
    :param info: what it says of itself.
    :return: a model with random weights, on the CPU.
    :raises ModelError: if its ``config.json`` describes no encoder.
    """
    encoder: nn.Module = (
        build_row_encoder(folder) if info.content == "image" else build_encoder(read_config(folder))
    )
    model = Classifier(encoder, classes=info.outputs)
    if info.lexical:
        lexical = LexicalHead(model.config.vocab_size, len(info.classes))
        model.attach(lexical, UNFITTED_SCALES, encoder_tokens=info.encoder_tokens or info.max_tokens)
    return model


def collate(tokens: Tokens, rows: Places | slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows to the longest of them.

    :param tokens: ids of all rows.
    :param rows: places of those that are wanted.
    :return: ids and mask, both ``(batch, tokens)``.
    """
    ids, mask = tokens.padded(rows)
    return torch.from_numpy(ids), torch.from_numpy(mask)


@torch.inference_mode()
def forward_sorted(
    model: nn.Module, tokens: Tokens, *, batch_size: int = 32
) -> Iterator[tuple[Places, npt.NDArray[np.float32]]]:
    """Run a model over rows in batches sorted by length, which spares most of the padding.

    :param model: the model; put it into evaluation mode first.
    :param tokens: the rows.
    :param batch_size: rows per batch.
    :yield: for each batch the rows' places, and their logits ``(batch, classes)``.
    """
    device = next(chain(model.parameters(), model.buffers())).device
    order = np.argsort(tokens.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        ids, mask = collate(tokens, rows)
        logits = model(ids.to(device), mask.to(device))
        yield rows, logits.float().cpu().numpy()


def all_logits(model: nn.Module, tokens: Tokens) -> npt.NDArray[np.float32]:
    """Run a model over rows.

    :param model: a classifier or a lexical head; put it into evaluation mode first.
    :param tokens: the rows.
    :return: ``(rows, classes)``, in the order of the rows.
    """
    found: npt.NDArray[np.float32] | None = None
    for rows, logits in forward_sorted(model, tokens):
        if found is None:
            found = np.zeros((len(tokens), logits.shape[1]), dtype=np.float32)
        found[rows] = logits
    return np.zeros((0, 0), dtype=np.float32) if found is None else found
