"""Loading a pretrained image encoder, with what it says of the images that it reads; never code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modelmill.errors import ModelError
from modelmill.models.architectures import check_image_architecture, read_config_json
from modelmill.models.base_model_folder import IMAGE_FILES, check_base_model_files, locate_base_model
from modelmill.models.encoder import read_config
from modelmill.models.image_encoder import ImageEncoder
from modelmill.models.limits import read_bounded
from modelmill.models.pretrained_weights import load_weights
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
    # A pooling layer behind the last one is not used.
    model = load_weights(folder, read_config(folder), unused="pooler")
    return ImageEncoder(model, settings, early_layers=early_layers).eval()


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
