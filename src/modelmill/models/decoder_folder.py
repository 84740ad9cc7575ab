"""The folder of a language model that is asked in this process: whether it is safe, and still the same.

Nothing heavy is imported: pipelines are checked with it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from modelmill.errors import ModelError
from modelmill.models.architectures import read_config_json
from modelmill.models.base_model_folder import check_base_model_files
from modelmill.system.digests import file_digests

DECODERS = ("gemma3_text", "llama", "mistral", "qwen2", "qwen3")
"""``model_type`` of the language models that tests ask."""

CHAT_FILES = ("chat_template.jinja", "tokenizer_config.json")
"""Where a chat template is; one of both will do."""

_READ = ("config.json", "tokenizer.json", *CHAT_FILES, "model*.safetensors", "*.safetensors.index.json")


def check_decoder(folder: Path) -> None:
    """Check that a folder holds a language model that can be asked here.

    :param folder: with ``config.json``, ``tokenizer.json`` and ``model.safetensors``.
    :raises ModelError: if its files cannot be read safely, or it is another kind of model.
    """
    if not folder.is_dir():
        raise ModelError(
            "a language model that is asked in this process is a folder of this machine",
            got=str(folder),
            remedy="give the folder that save_pretrained wrote",
        )
    check_base_model_files(folder)
    content = read_config_json(folder)
    kind = content.get("model_type")
    if kind not in DECODERS:
        raise ModelError(
            "a language model that is asked in this process is of a known architecture",
            got=kind,
            choices=DECODERS,
        )
    if content.get("quantization_config"):
        raise ModelError(
            "a language model that is asked in this process has plain weights, without quantization_config",
            got=str(folder / "config.json"),
            remedy="take the unquantised model, or ask a server such as vLLM or llama.cpp",
        )


def decoder_state(folder: Path, *, memory: Path) -> str:
    """Return a digest of all that answers follow from: it changes with the content, not with the place.

    :param folder: see :func:`check_decoder`.
    :param memory: directory in which the digests of files are kept.
    :return: 64 hexadecimal digits; ``missing`` if the folder is not there or cannot be read.
    """
    try:
        names = sorted({path.name for pattern in _READ for path in folder.glob(pattern)})
        digests = file_digests(folder, names, memory=memory) if names else None
    except (ModelError, OSError):
        digests = None  # the step itself says why
    return (
        "missing"
        if digests is None
        else hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    )
