"""Models whose weights ``torchao`` has quantised: the ``torchao`` bundle, which PyTorch runs.

Its ``model.safetensors`` holds the plain tensors that the quantised ones consist of, and in its metadata
how they go together, as ``torchao`` writes both. Where a method computes in narrow numbers (fp8, int4),
the encoder is bf16 and the file needs a GPU that has such products; int8 weights run anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import Classifier, empty_classifier
from modelmill.system.imports import needing_extra

_WEIGHTS = "model.safetensors"


def torchao_library() -> Any:
    """Import what quantises.

    :return: the package ``torchao.quantization``.
    :raises ConfigError: if it is not installed.
    """
    with needing_extra("quantisation in PyTorch needs", "gpu"):
        import torchao.quantization as library
    return library


def write_quantised(model: Classifier, path: Path) -> None:
    """Write the weights of a model that ``torchao`` has quantised."""
    torchao_library()
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

    weights = model.state_dict()
    plain = {name: value for name, value in weights.items() if "." not in name}
    # The library takes names of a module and a weight apart at the dot.
    tensors, metadata = flatten_tensor_state_dict(
        {name: value for name, value in weights.items() if name not in plain}
    )
    stored = {name: value.cpu().contiguous() for name, value in {**tensors, **plain}.items()}
    save_file(stored, path, metadata)


def load_quantised(folder: Path, device: torch.device) -> Classifier:
    """Load a ``torchao`` bundle.

    :param folder: the bundle.
    :param device: where it shall run.
    :return: the model, in evaluation mode.
    :raises ModelError: if its files do not go together, or it needs a GPU and there is none.
    """
    torchao_library()
    from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

    info = BundleInfo.load(folder)
    if info.device == "cuda" and device.type != "cuda":
        raise ModelError(
            "a model of format torchao that computes in int4 or fp8 runs on a GPU",
            got=f"device {device.type}",
            remedy="run it where there is one, or take a method that runs anywhere: int8_torch, int8_dynamic",
        )
    model = empty_classifier(folder, info)
    try:
        with safe_open(folder / _WEIGHTS, "pt", device=str(device)) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            weights, plain = unflatten_tensor_state_dict(tensors, file.metadata())
        model.load_state_dict({**weights, **plain}, assign=True)
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{_WEIGHTS} must hold the weights that config.json describes ({type(error).__name__})",
            got=str(folder),
            remedy="make the model again with modelmill",
        ) from error
    return model.to(device).eval()
