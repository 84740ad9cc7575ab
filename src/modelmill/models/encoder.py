"""An encoder's architecture: read from ``config.json``, and built without code that the file names."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from modelmill.errors import ModelError
from modelmill.models.architectures import ARCHITECTURES, check_image_architecture, read_config_json
from modelmill.models.attention import KEPT_HEADS, fit_heads
from modelmill.models.image_encoder import EARLY_LAYERS, ImageEncoder, RowEncoder
from modelmill.models.image_stages import KEPT_STAGES, cut_stages
from modelmill.tokens.images import ImageInput


def read_config(folder: Path) -> PretrainedConfig:
    """Read ``config.json`` without running anything that it names.

    :param folder: a base model or a bundle.
    :return: the configuration of a known architecture.
    :raises ModelError: if it cannot be read, asks for code, or names an unknown architecture.
    """
    content = read_config_json(folder)
    kind = content.pop("model_type", None)
    if kind not in CONFIG_MAPPING:
        raise ModelError(
            "config.json must name a model_type that transformers has itself",
            got=kind,
            choices=ARCHITECTURES,
        )
    try:
        return AutoConfig.for_model(kind, **content)
    except Exception as error:  # each architecture validates in its own way
        raise ModelError(
            f"config.json must describe a {kind} model ({type(error).__name__}: {error})",
            got=str(folder / "config.json"),
            remedy="download the model again",
        ) from error


def layer_list(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """Find the encoder's transformer layers.

    :param encoder: a transformers encoder.
    :return: name of the list within the encoder, and the list; ALBERT's is shorter than its depth, since its
        layers share their weights.
    :raises ModelError: if the architecture has no such list.
    """
    config: Any = encoder.config
    count = getattr(config, "num_hidden_groups", config.num_hidden_layers)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise ModelError(
        "an encoder must have one list of transformer layers",
        got=config.model_type,
        remedy="take a base model of a BERT-like architecture",
    )


def layers_of(encoder: nn.Module) -> tuple[nn.Module, ...]:
    """Return an encoder's layers, the lowest first; of an image encoder its stages."""
    return encoder.stages if isinstance(encoder, RowEncoder) else tuple(layer_list(encoder)[1])


def depth(encoder: nn.Module) -> int:
    """Return how many layers an encoder runs: where they share their weights (ALBERT), more than it has."""
    if isinstance(encoder, RowEncoder):
        return len(encoder.stages)
    config: Any = encoder.config
    return int(config.num_hidden_layers)


def width(encoder: nn.Module) -> int:
    """Return the number of features that an encoder gives of a position."""
    if isinstance(encoder, RowEncoder):
        return encoder.features
    config: Any = encoder.config
    return int(config.hidden_size)


def build_row_encoder(folder: Path) -> RowEncoder:
    """Return an image encoder with random weights.

    :param folder: a bundle, with ``config.json`` and ``image.json``.
    :return: the encoder.
    :raises ModelError: if its architecture could load anything but code that is installed here.
    """
    check_image_architecture(read_config_json(folder))
    config = read_config(folder)
    model = build_encoder(config)
    early = getattr(config, EARLY_LAYERS, 0)
    return RowEncoder(ImageEncoder(model, ImageInput.load(folder), early_layers=early))


def build_encoder(config: PretrainedConfig) -> PreTrainedModel:
    """Return an encoder with random weights.

    :param config: its configuration.
    :return: the encoder, without the pooling layer that some architectures add and this model does not use.
    """
    # AutoModel.from_config itself does not hand on the options.
    encoder: PreTrainedModel = _encoder_class(config)._from_config(  # noqa: SLF001 (see above)
        config, **encoder_options(config)
    )
    if hasattr(config, KEPT_HEADS):
        fit_heads(encoder, layer_list(encoder)[1])
    if hasattr(config, KEPT_STAGES):
        cut_stages(encoder, getattr(config, KEPT_STAGES))
    return encoder


def encoder_options(config: PretrainedConfig) -> dict[str, Any]:
    """Return the arguments that leave out the pooling layer, for architectures that have one.

    :param config: the encoder's configuration.
    :return: keyword arguments of the encoder's class.
    """
    accepted = inspect.signature(_encoder_class(config)).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepted else {}


def _encoder_class(config: PretrainedConfig) -> Any:
    return MODEL_MAPPING[type(config)]
