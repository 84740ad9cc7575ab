"""Bounds of a model's files, looked at before anything is built: a file can do harm without code.

A configuration of a million layers takes minutes and all memory; a link to ``/dev/zero`` never ends. So every
file is a regular one that lies in the model's folder, text files have a size limit, and the weights that a
configuration describes must fit the bytes that are there.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelmill.errors import ModelError

MOST_BYTES = {
    "chat_template.jinja": 1 << 20,
    "config.json": 4 << 20,
    "model.safetensors.index.json": 32 << 20,
    "modelmill.json": 16 << 20,
    "preprocessor_config.json": 1 << 20,
    "tokenizer.json": 256 << 20,
    "tokenizer_config.json": 16 << 20,
}
"""Largest size of the files that are parsed. Real ones have less than a quarter of it."""

MOST: Mapping[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "n_layers", "num_hidden_groups", "inner_group_num"), 1_000),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_heads"), 4_096),
    **dict.fromkeys(("hidden_size", "dim", "embedding_size", "head_dim", "type_vocab_size"), 65_536),
    **dict.fromkeys(("intermediate_size", "hidden_dim"), 1 << 20),
    **dict.fromkeys(
        ("vocab_size", "max_position_embeddings", "position_buckets", "max_relative_positions"), 1 << 24
    ),
}
"""Most of each number in ``config.json``; the fewest is one, but for those that may be switched off."""
_MAY_BE_OFF = ("position_buckets", "max_relative_positions", "type_vocab_size")


def read_bounded(path: Path) -> bytes:
    """Read a file of a model that is parsed.

    :param path: the file.
    :return: its content.
    :raises ModelError: if it is no regular file of the model's folder, or larger than :data:`MOST_BYTES`.
    :raises OSError: if it cannot be read.
    """
    check_file(path)
    most = MOST_BYTES[path.name]
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ModelError(
            f"{path.name} has at most {most >> 20} MiB",
            got=f"{path}, {path.stat().st_size:,} bytes",
            remedy="download the model again",
        )
    return content


def check_file(path: Path) -> None:
    """Make sure that a path is a regular file in its model's folder, or in the same model's cache.

    :param path: the file.
    :raises ModelError: if it is a device, a pipe or a folder, or a link that leads elsewhere.
    :raises OSError: if it is not there.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ModelError(
            "a model's files are regular files", got=str(path), remedy="download the model again"
        )
    folder = path.parent.absolute()
    cached = next((one for one in folder.parents if one.name.startswith("models--")), folder)
    real = os.path.realpath(path)
    if not any(Path(real).is_relative_to(os.path.realpath(home)) for home in (folder, cached)):
        raise ModelError(
            f"a model's files lie in its folder; {path} is a link out of it",
            got=real,
            remedy="copy the file there",
        )


def check_dimensions(content: Mapping[str, Any], path: Path) -> None:
    """Refuse a configuration with numbers that no encoder has.

    :param content: of ``config.json``.
    :param path: the file, for the message.
    :raises ModelError: naming the number.
    """
    for name, most in MOST.items():
        value = content.get(name)
        least = -1 if name in _MAY_BE_OFF else 1
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= most):
            raise ModelError(
                f"{name} in config.json is a whole number from {least} to {most:,} ({path})",
                got=value,
                remedy="download the model again",
            )
    labels = content.get("num_labels")
    if isinstance(labels, int) and labels > MOST["hidden_size"]:
        raise ModelError(f"num_labels in config.json is at most {MOST['hidden_size']:,} ({path})", got=labels)


def check_weights(content: Mapping[str, Any], folder: Path) -> None:
    """Make sure that the weights are where the folder says, and as many as ``config.json`` needs at least.

    :param content: of ``config.json``.
    :param folder: the base model.
    :raises ModelError: if a part lies elsewhere, or the bytes are fewer than a byte for each weight.
    :raises OSError: if a file is not there.
    """
    parts = {folder / name for name in _parts(folder)}
    for part in parts:
        check_file(part)
    size = sum(part.stat().st_size for part in parts)
    layers = 1 if content.get("model_type") == "albert" else int(content.get("num_hidden_layers") or 0)
    width = int(content.get("hidden_size") or content.get("dim") or 0)
    words = int(content.get("vocab_size") or 0) * int(content.get("embedding_size") or width)
    least = layers * width * width + words
    if least > size:
        raise ModelError(
            "model.safetensors must hold the weights that config.json describes (at least a byte for each)",
            got=f"{size:,} bytes in {folder} for more than {least:,} weights",
            remedy="download the model again",
        )


def _parts(folder: Path) -> set[str]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return {"model.safetensors"}
    try:
        names = set(json.loads(read_bounded(index))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, RecursionError, TypeError) as error:
        raise ModelError(
            f"model.safetensors.index.json must name the weights' files ({type(error).__name__})",
            got=str(index),
            remedy="download the model again",
        ) from error
    outside = sorted(str(name) for name in names if not isinstance(name, str) or set(name) & set("/\\\0"))
    if outside:
        raise ModelError(
            "a model's files lie in its folder", got=outside[0], remedy="take a model without such parts"
        )
    return names
