"""Weights of a pretrained model, mostly an encoder: read from a folder, without code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from modelmill.errors import ModelError
from modelmill.models.encoder import encoder_options


def load_weights(
    folder: Path, config: PretrainedConfig, *, unused: str | None = None, kind: Any = AutoModel
) -> PreTrainedModel:
    """Load a model's weights in fp32.

    :param folder: with ``model.safetensors``.
    :param config: the model's configuration.
    :param unused: part of the names of weights that may be missing; None: all must be there.
    :param kind: transformers' class that makes the model; without another, of an encoder.
    :return: the model.
    :raises ModelError: if the weights are not those that the configuration describes, or the architecture
        needs a package that is not installed.
    """
    # Its report lists the layers that are left out on purpose; what is missing is checked below.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call] # transformers has no types here
    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers has no types here
    try:
        encoder, found = kind.from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **(encoder_options(config) if kind is AutoModel else {}),
        )
    except ImportError as error:
        raise ModelError(
            f"an encoder of type {config.model_type} needs a package that is not installed",
            got=str(error).strip().partition("\n")[0],
            remedy="install it; for encoders of timm: pip install 'modelmill[images]'",
        ) from error
    except Exception as error:  # safetensors, shape and architecture errors share no base class
        raise ModelError(
            f"model.safetensors must hold the weights that config.json describes ({type(error).__name__})",
            got=str(folder),
            remedy="download the model again",
        ) from error
    missing = sorted(key for key in found["missing_keys"] if unused is None or unused not in key)
    if missing:
        raise ModelError(
            f"model.safetensors must hold all weights of the encoder; {len(missing)} are missing, such as "
            f"{missing[0]}",
            got=str(folder),
            remedy="take a model whose weights fit its config.json",
        )
    result: PreTrainedModel = encoder.float()
    return result
