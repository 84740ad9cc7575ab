"""Quantisation of a PyTorch model by ``torchao``: for GPUs, where int8 ONNX files gain nothing.

=============  ==================================================================  =========================
``int8_torch``  int8 weights, one scale per output channel; activations fp32        runs anywhere
``int4_torch``  int4 weights in groups of 32; activations bf16                      NVIDIA, from Ampere (8.0)
``fp8_torch``   fp8 weights and activations, a scale for each row of both           NVIDIA, from Ada (8.9)
=============  ==================================================================  =========================

The encoder's linear layers are quantised, and its embeddings to int8 with a scale for each token. Scales of
single rows make an answer independent of the other rows of its batch, up to the order in which a GPU adds up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modelmill.compression.options import TORCH_METHODS
from modelmill.errors import ConfigError
from modelmill.models.classifier import Classifier
from modelmill.models.torchao import torchao_library

_GROUP = 32
"""int4 weights that share one scale."""


@dataclass(frozen=True)
class TorchMethod:
    """How ``torchao`` quantises the encoder's linear layers."""

    config: Callable[[Any], Any]
    """From the package ``torchao.quantization`` to the configuration that its ``quantize_`` takes."""
    capability: tuple[int, int] | None = None
    """Least compute capability of a GPU that runs the model; None: it runs anywhere."""


def _int4(library: Any) -> Any:
    from torchao.quantization.quantize_.workflows import Int4PackingFormat

    return library.Int4WeightOnlyConfig(
        group_size=_GROUP, int4_packing_format=Int4PackingFormat.TILE_PACKED_TO_4D
    )


def _fp8(library: Any) -> Any:
    return library.Float8DynamicActivationFloat8WeightConfig(granularity=library.PerRow())


int8_torch = TorchMethod(lambda library: library.Int8WeightOnlyConfig())
int4_torch = TorchMethod(_int4, capability=(8, 0))
fp8_torch = TorchMethod(_fp8, capability=(8, 9))


def quantize_encoder(model: Classifier, name: str) -> Classifier:
    """Quantise the encoder of a model in place.

    :param model: the model, on the CPU, in evaluation mode.
    :param name: a method in :data:`modelmill.compression.options.TORCH_METHODS`.
    :return: the same model, on the GPU if the method needs one.
    :raises ConfigError: if the method needs a GPU that this machine does not have.
    """
    library = torchao_library()
    method: TorchMethod = TORCH_METHODS.load(name)
    if method.capability is not None:
        _check_device(name, method.capability)
        model.cuda()
        model.encoder.to(torch.bfloat16)
    library.quantize_(model.encoder, _embeddings(library), filter_fn=_is_embedding)
    library.quantize_(model.encoder, method.config(library))
    return model


def _embeddings(library: Any) -> Any:
    return library.IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=library.PerAxis(0))


def _is_embedding(module: nn.Module, _name: str) -> bool:
    return isinstance(module, nn.Embedding)


def _check_device(name: str, least: tuple[int, int]) -> None:
    found = torch.cuda.get_device_capability() if torch.cuda.is_available() else None
    if found is None or found < least:
        raise ConfigError(
            f"{name} needs a GPU of compute capability {least[0]}.{least[1]} or more",
            got="no GPU" if found is None else f"{found[0]}.{found[1]}",
            remedy="give the step a GPU (resources: {gpus: 1}), or take int8_torch or int8_dynamic",
        )
