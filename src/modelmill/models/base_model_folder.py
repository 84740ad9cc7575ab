"""The folder of a base model: where it is, and whether its files are those of yesterday.

Nothing heavy is imported: this is asked before each step that reads a base model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from modelmill.artifacts import ContentKind
from modelmill.errors import ModelError
from modelmill.models.architectures import (
    check_architecture,
    check_image_architecture,
    read_config_json,
    reads_images,
)
from modelmill.models.limits import check_weights, read_bounded
from modelmill.system.digests import file_digests

FILES = ("config.json", "tokenizer.json", "model.safetensors")
"""What a base model's folder has. Weights may also be split, with ``model.safetensors.index.json``."""

IMAGE_FILES = ("config.json", "model.safetensors")
"""What the folder of an image encoder has, and ``preprocessor_config.json`` where transformers wrote it."""

_READ = (
    "config.json",
    "tokenizer.json",
    "preprocessor_config.json",
    "model*.safetensors",
    "*.safetensors.index.json",
)
"""What is read of it."""


def base_model_state(name: str, *, memory: Path) -> str:
    """Return a digest of what is read of a base model; it changes with the weights, not with their place.

    :param name: see :func:`locate_base_model`.
    :param memory: directory in which the digests of files are kept.
    :return: 64 hexadecimal digits; ``missing`` if the folder is not there or cannot be read.
    """
    try:
        folder = _kept_snapshot(name) or locate_base_model(name)
        names = sorted({path.name for pattern in _READ for path in folder.glob(pattern)})
        digests = file_digests(folder, names, memory=memory)
    except (ModelError, OSError):
        return "missing"  # the step itself says why
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "1") != "0"


def _kept_snapshot(name: str) -> Path | None:
    """Return the snapshot of a Hugging Face id that is on this machine: its library takes long to import."""
    if not _offline() or name.count("/") != 1 or Path(name).expanduser().exists():
        return None
    from huggingface_hub.constants import HF_HUB_CACHE

    kept = Path(HF_HUB_CACHE, f"models--{name.replace('/', '--')}")
    try:
        return kept / "snapshots" / (kept / "refs" / "main").read_text().strip()
    except OSError:
        return None


def locate_base_model(name: str) -> Path:
    """Return the folder of a base model.

    :param name: folder, or Hugging Face id (see :func:`~modelmill.models.base_model.load_base_model`).
    :return: the folder.
    :raises ModelError: if there is none.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(
            "base_model must be a readable folder, or a Hugging Face id such as "
            "sentence-transformers/all-MiniLM-L6-v2",
            got=name,
            remedy=f"give a folder with {', '.join(FILES)}",
        )
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    offline = _offline()
    try:
        return Path(
            snapshot_download(
                name,
                local_files_only=offline,
                allow_patterns=list(_READ),
            )
        )
    except Exception as error:  # network, hub and cache errors share no base class
        remedy = "give a local folder, or set HF_HUB_OFFLINE=0 to download it" if offline else "check the id"
        raise ModelError(
            f"the base model must be in the Hugging Face cache or downloadable ({type(error).__name__})",
            got=name,
            remedy=remedy,
        ) from error


def check_base_model_files(folder: Path, *, files: Sequence[str] = FILES) -> None:
    """Make sure that a folder has the files of a base model, and no pickled weights instead.

    :param folder: the folder.
    :param files: :data:`FILES`, or :data:`IMAGE_FILES`.
    :raises ModelError: if not, or if one of them is none that can be read safely.
    """
    try:
        present = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise ModelError(
            f"the base model's folder must be readable ({error.strerror})",
            got=str(folder),
            remedy="give this user the right to read it",
        ) from error
    if "model.safetensors.index.json" in present:
        present.add("model.safetensors")
    missing = [name for name in files if name not in present]
    pickled = sorted(name for name in present if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl")))
    if "model.safetensors" in missing and pickled:
        raise ModelError(
            "weights must be safetensors: a pickle file can run code",
            got=str(folder / pickled[0]),
            remedy="convert it with transformers' save_pretrained, or take a model with model.safetensors",
        )
    if missing:
        raise ModelError(
            f"a base model's folder has {', '.join(files)}; missing here: {', '.join(missing)}",
            got=str(folder),
            remedy="download the model again",
        )
    try:
        if "tokenizer.json" in files:
            read_bounded(folder / "tokenizer.json")
        check_weights(read_config_json(folder), folder)
    except OSError as error:
        raise ModelError(
            f"a base model's files must be readable ({error.strerror})", got=str(folder)
        ) from error


def check_base_model(name: str, *, max_tokens: int | None = None) -> ContentKind | None:
    """Check a base model as far as this machine can see it: one that is not here yet passes.

    :param name: see :func:`locate_base_model`.
    :param max_tokens: tokens that it has to read; None: not checked.
    :return: what it reads; None if it is not here.
    :raises ModelError: as :func:`~modelmill.models.architectures.check_architecture` and
        :func:`~modelmill.models.architectures.check_image_architecture`.
    """
    folder = _kept_snapshot(name) or Path(name).expanduser()
    if not (folder / "config.json").exists():
        return None
    content = read_config_json(folder)
    if reads_images(content):
        check_image_architecture(content)
        return "image"
    check_architecture(content, max_tokens=max_tokens)
    return "text"


def content_of_base(name: str) -> ContentKind:
    """Return what a base model reads.

    :param name: see :func:`locate_base_model`.
    :return: texts or images.
    :raises ModelError: if there is none, or its ``config.json`` cannot be read.
    """
    return "image" if reads_images(read_config_json(locate_base_model(name))) else "text"
