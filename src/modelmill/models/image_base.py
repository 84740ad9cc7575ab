"""Loading a pretrained image encoder, with what it says of the images that it reads; never code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from transformers import AutoModel
from transformers.utils import logging

from modelmill.errors import ModelError
from modelmill.models.architectures import check_image_architecture, read_config_json
from modelmill.models.base_model_folder import IMAGE_FILES, check_base_model_files, locate_base_model
from modelmill.models.encoder import encoder_options, read_config
from modelmill.models.image_encoder import ImageEncoder
from modelmill.models.limits import read_bounded
from modelmill.tokens.images import ImageInput

PREPROCESSOR = "preprocessor_config.json"
_RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""In Pillow's order, by which ``preprocessor_config.json`` numbers them."""


def load_image_base(name: str, *, early_layers: int, size: int | None = None) -> ImageEncoder:
    """Load a pretrained image encoder from a folder, or by its Hugging Face id.

    :param name: see :func:`~modelmill.models.base_model_folder.locate_base_model`.
    :param early_layers: see :class:`~modelmill.models.image_encoder.ImageEncoder`.
    :param size: side of the images that it is to read; None: as it says itself.
    :return: the encoder, in evaluation mode.
    :raises ModelError: if it cannot be read, holds code or pickled weights, or reads another size only.
    """
    folder = locate_base_model(name)
    check_base_model_files(folder, files=IMAGE_FILES)
    content = read_config_json(folder)
    check_image_architecture(content)
    settings = image_input(folder, content, size=size)
    # Its report lists the head that is left out on purpose; what is missing is checked below.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call] # transformers has no types here
    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers has no types here
    try:
        config = read_config(folder)
        model, found = AutoModel.from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **encoder_options(config),
        )
    except ModelError:
        raise
    except ImportError as error:
        raise ModelError(
            "an encoder of timm needs timm, which is not installed",
            got=str(folder),
            remedy="pip install 'modelmill[images]'",
        ) from error
    except Exception as error:  # safetensors, shape and architecture errors share no base class
        raise ModelError(
            f"model.safetensors must hold the weights that config.json describes ({type(error).__name__})",
            got=str(folder),
            remedy="download the model again",
        ) from error
    # A pooling layer behind the last one is not used.
    missing = sorted(key for key in found["missing_keys"] if "pooler" not in key)
    if missing:
        raise ModelError(
            f"model.safetensors must hold all weights of the encoder; {len(missing)} are missing, such as "
            f"{missing[0]}",
            got=str(folder),
            remedy="take a model whose weights fit its config.json",
        )
    return ImageEncoder(model.float().eval(), settings, early_layers=early_layers).eval()


def image_input(folder: Path, content: Mapping[str, Any], *, size: int | None) -> ImageInput:
    """Return how an encoder reads images.

    :param folder: the base model. ``preprocessor_config.json`` says it; for a ``timm_wrapper`` the
        ``pretrained_cfg`` in ``config.json``.
    :param content: of its ``config.json``.
    :param size: another side than it says; None: its own.
    :return: the size, and by what pixels are standardised.
    :raises ModelError: if neither says it, or the encoder has patches for another size.
    """
    own = content.get("pretrained_cfg") if content.get("model_type") == "timm_wrapper" else None
    path = folder / PREPROCESSOR
    try:
        said = _of_timm(own) if own else _of_transformers(json.loads(read_bounded(path)))
        height, width = said.pop("size")
        settings = ImageInput(height=size or height, width=size or width, **said)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ValidationError) as error:
        raise ModelError(
            f"an image encoder says how it reads images ({type(error).__name__}: {error})",
            got=str(path if not own else folder / "config.json"),
            remedy=f"write {PREPROCESSOR} with size, image_mean and image_std, or for timm's models "
            "pretrained_cfg with input_size, mean and std",
        ) from error
    fixed = content.get("image_size")
    sides = [fixed, fixed] if isinstance(fixed, int) else fixed
    if content.get("model_type") == "vit" and sides and [settings.height, settings.width] != list(sides):
        raise ModelError(
            f"this encoder has patches for images of {' x '.join(map(str, sides))} pixels",
            got=f"{settings.height} x {settings.width}",
            remedy="leave image_size empty, or take a base model of convolutions",
        )
    return settings


def _of_timm(said: Mapping[str, Any]) -> dict[str, Any]:
    _, height, width = said["input_size"]
    return {
        "size": (height, width),
        "mean": tuple(said["mean"]),
        "spread": tuple(said["std"]),
        "resampling": said.get("interpolation") or "bilinear",
    }


def _of_transformers(said: Mapping[str, Any]) -> dict[str, Any]:
    size = said.get("crop_size") or said["size"]
    if isinstance(size, int):
        size = {"height": size, "width": size}
    height = size.get("height") or size["shortest_edge"]
    factor = said.get("rescale_factor", 1 / 255)
    if not isinstance(factor, int | float) or abs(factor * 255 - 1) > 1e-6:
        raise ValueError(f"rescale_factor is 1/255; got {factor}")
    standardised = said.get("do_normalize", True)
    return {
        "size": (height, size.get("width") or height),
        "mean": tuple(said["image_mean"]) if standardised else (0.0, 0.0, 0.0),
        "spread": tuple(said["image_std"]) if standardised else (1.0, 1.0, 1.0),
        "resampling": _RESAMPLING[said.get("resample", 2)],
    }
