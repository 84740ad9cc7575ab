"""Which encoders work from fine-tuning to the exported file, and a base model's ``config.json``.

It imports neither torch nor transformers, so that a pipeline can be checked before anything is trained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelmill.errors import ModelError
from modelmill.models.limits import check_dimensions, read_bounded

ARCHITECTURES = (
    "albert",
    "bert",
    "camembert",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "eurobert",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)
"""``model_type`` of the encoders that tests train, distil, export and score: see docs/architectures.md."""

IMAGE_ARCHITECTURES = ("convnext", "resnet", "timm_wrapper", "vit")
"""``model_type`` of the image encoders that tests export, train and score: see docs/images.md."""

_PADDED_POSITIONS = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"})
"""Architectures whose positions start behind the id of the padding token."""

_GROUPS = ("num_hidden_groups", "inner_group_num")
"""How many layers of ALBERT have weights of their own: its students take those that all layers share."""

_CODE_KEYS = frozenset(
    {
        "auto_map",
        "trust_remote_code",
        "custom_pipelines",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "_experts_implementation",
        "_experts_implementation_internal",
    }
)
"""Keys of config.json by which a library loads code from elsewhere."""


def read_config_json(folder: Path) -> dict[str, Any]:
    """Read ``config.json``.

    :param folder: a base model or a bundle.
    :return: its content.
    :raises ModelError: if it cannot be read, asks for code, or has numbers that no encoder has.
    """
    path = folder / "config.json"
    try:
        content = json.loads(read_bounded(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"config.json must be readable JSON ({type(error).__name__})",
            got=str(path),
            remedy="download the model again",
        ) from error
    if not isinstance(content, dict):
        raise ModelError("config.json must be a mapping", got=content, remedy="download the model again")
    try:
        asked = sorted(set(_keys(content)) & _CODE_KEYS)
    except RecursionError as error:
        raise ModelError("config.json must not be nested so deep", got=str(path)) from error
    if asked:
        raise ModelError(
            f"a base model must not bring or choose code: {path} has the key {asked[0]!r}",
            remedy="take a model whose architecture transformers has itself, or remove the key if you know "
            "that the model needs no code",
        )
    check_dimensions(content, path)
    return content


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def reads_images(content: Mapping[str, Any]) -> bool:
    """Return whether a base model is an image encoder.

    :param content: of its ``config.json``.
    :return: whether its architecture is one of :data:`IMAGE_ARCHITECTURES`.
    """
    return content.get("model_type") in IMAGE_ARCHITECTURES


def check_image_architecture(content: Mapping[str, Any]) -> None:
    """Check that an image encoder is built of code that is installed here, and of nothing else.

    :param content: of its ``config.json``, see :func:`reads_images`.
    :raises ModelError: if it is one of timm's and its name or arguments could load anything else.
    """
    if content.get("model_type") != "timm_wrapper":
        return
    name = content.get("architecture")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)?", name):
        raise ModelError(
            "the architecture of a timm_wrapper is the name of one of timm's models",
            got=name,
            remedy="write it without hf-hub: and the like, and give the weights as model.safetensors",
        )
    if content.get("model_args"):
        raise ModelError(
            "a timm_wrapper has no model_args: they choose code",
            got=content["model_args"],
            remedy="take a model whose architecture says it all",
        )


def check_architecture(content: Mapping[str, Any], *, max_tokens: int | None = None) -> None:
    """Check that a base model can be trained, distilled and exported.

    :param content: of its ``config.json``.
    :param max_tokens: tokens that it has to read; None: not checked.
    :raises ModelError: if its architecture is not one of :data:`ARCHITECTURES`, or it reads fewer tokens.
    """
    kind = content.get("model_type")
    if kind not in ARCHITECTURES:
        raise ModelError(
            "base_model must be a text encoder that can be trained and exported",
            got=kind,
            choices=ARCHITECTURES,
        )
    if content.get("is_decoder") or content.get("is_encoder_decoder"):
        raise ModelError(
            "a base model must be a text encoder such as BERT", got=kind, remedy="take an encoder-only model"
        )
    for field in _GROUPS:
        if content.get(field, 1) != 1:
            raise ModelError(
                f"an ALBERT whose layers share all their weights can be distilled: {field} must be 1",
                got=content[field],
                remedy="take one of the published ALBERT models",
            )
    limit = content.get("max_position_embeddings")
    if not isinstance(limit, int) or max_tokens is None:
        return
    if kind in _PADDED_POSITIONS:
        limit -= (content.get("pad_token_id", 1) or 0) + 1
    if max_tokens > limit:
        raise ModelError(
            f"max_tokens must not exceed what the base model can read, {limit}",
            got=max_tokens,
            remedy=f"lower it to at most {limit}",
        )
