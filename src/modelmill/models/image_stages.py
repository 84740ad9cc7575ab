"""Image encoders with fewer stages: the first ones of a larger encoder.

The stages of a convolutional network differ in their channels and in the size of their maps, so unlike the
layers of a text encoder they cannot be picked from all over it: a smaller network ends earlier. What it knows
of an image is then coarser, and nearer to the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from modelmill.errors import ModelError

KEPT_STAGES = "modelmill_stages"
"""Key of the configuration of one of timm's encoders: the stages that it has; missing where it has all."""

STAGE_LISTS = ("stages", "layers", "layer", "blocks")
"""Names of an encoder's list of stages or layers, in transformers and in timm."""


def stage_list(model: nn.Module) -> str | None:
    """Return the name of an encoder's list of stages or layers within it; None if it has no such list."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in STAGE_LISTS and isinstance(module, nn.ModuleList | nn.Sequential):
            return str(name)
    return None


def fewer_stages(config: Mapping[str, Any], stages: int) -> dict[str, Any]:
    """Return the configuration of an encoder that has the first stages of another.

    :param config: content of a ``config.json``.
    :param stages: how many, at most as many as the encoder has.
    :return: the content of the smaller encoder's.
    :raises ModelError: if it is not known how encoders of this architecture are cut.
    """
    kind = config.get("model_type")
    if kind not in _FEWER:
        raise ModelError(
            f"fewer stages are known of encoders of the types {', '.join(_FEWER)}",
            got=kind,
            remedy="name the folder of a smaller image encoder under student",
        )
    return {name: value for name, value in config.items() if name not in _DERIVED} | _FEWER[str(kind)](
        config, stages
    )


def cut_stages(model: nn.Module, stages: int) -> None:
    """Take the last stages out of one of timm's encoders, and what was made for the channels of the last one.

    :param model: the encoder; changed in place.
    :param stages: stages that stay.
    :raises ModelError: if the encoder has no list of them.
    """
    name = stage_list(model)
    if name is None:
        raise ModelError(
            "an encoder that is cut must have one list of stages",
            got=type(model).__name__,
            remedy="take a base model such as tf_efficientnet_lite0 or convnext_tiny",
        )
    path, _, last = name.rpartition(".")
    parent = model.get_submodule(path)
    kept: Any = model.get_submodule(name)
    setattr(parent, last, kept[:stages])
    names = [child for child, _ in parent.named_children()]
    for child in names[names.index(last) + 1 :]:
        setattr(parent, child, nn.Identity())


def _sizes(config: Mapping[str, Any], stages: int) -> dict[str, Any]:
    cut = {name: list(config[name])[:stages] for name in ("hidden_sizes", "depths")}
    return cut | ({"num_stages": stages} if "num_stages" in config else {})


def _layers(_config: Mapping[str, Any], stages: int) -> dict[str, Any]:
    return {"num_hidden_layers": stages}


def _key(_config: Mapping[str, Any], stages: int) -> dict[str, Any]:
    return {KEPT_STAGES: stages}


_DERIVED = ("stage_names", "out_features", "out_indices", "_out_features", "_out_indices")
"""What transformers works out of the stages."""
_FEWER: Mapping[str, Callable[[Mapping[str, Any], int], dict[str, Any]]] = {
    "resnet": _sizes,
    "convnext": _sizes,
    "vit": _layers,
    "timm_wrapper": _key,
}
