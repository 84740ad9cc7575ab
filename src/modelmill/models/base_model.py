"""Loading a pretrained encoder: weights and configuration, never code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PretrainedConfig, PreTrainedModel

from modelmill.errors import ModelError
from modelmill.models.architectures import check_architecture
from modelmill.models.base_model_folder import check_base_model_files, locate_base_model
from modelmill.models.encoder import read_config
from modelmill.models.image_encoder import RowEncoder
from modelmill.models.pretrained_weights import load_weights
from modelmill.tokens.tokenizer import load_tokenizer


@dataclass(frozen=True)
class BaseModel:
    """A pretrained encoder."""

    encoder: PreTrainedModel | RowEncoder
    tokenizer: Path
    """Path of its ``tokenizer.json``, or of ``image.json``."""


def load_base_model(name: str, *, max_tokens: int, dropout: float) -> BaseModel:
    """Load a pretrained encoder from a folder, or by its Hugging Face id.

    An id is looked up in the local Hugging Face cache; it is downloaded only if ``HF_HUB_OFFLINE=0`` says so.

    :param name: folder or id.
    :param max_tokens: tokens that it has to be able to read.
    :param dropout: dropout inside the encoder while it is trained.
    :return: the encoder and its tokenizer.
    :raises ModelError: if it cannot be read, holds code or pickled weights, or is no text encoder.
    """
    folder = locate_base_model(name)
    check_base_model_files(folder)
    config = read_config(folder)
    _check_config(config, folder, max_tokens=max_tokens)
    vocabulary = load_tokenizer(folder, max_tokens=max_tokens).get_vocab_size()
    if vocabulary > config.vocab_size:
        raise ModelError(
            f"tokenizer.json and config.json must be of one model: {vocabulary} tokens, "
            f"{config.vocab_size} embeddings",
            got=str(folder),
            remedy="download the model again",
        )
    set_dropout(config, dropout)
    return BaseModel(load_weights(folder, config), folder / "tokenizer.json")


def _check_config(config: PretrainedConfig, folder: Path, *, max_tokens: int) -> None:
    check_architecture(config.to_dict(), max_tokens=max_tokens)
    for field in ("vocab_size", "hidden_size", "num_hidden_layers"):
        if not isinstance(getattr(config, field, None), int):
            raise ModelError(
                f"a text encoder's config.json has a whole number {field}",
                got=str(folder),
                remedy="take an encoder-only text model",
            )


def set_dropout(config: PretrainedConfig, dropout: float) -> None:
    """Set every kind of dropout that an encoder's configuration has."""
    for field in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if hasattr(config, field):
            setattr(config, field, dropout)
