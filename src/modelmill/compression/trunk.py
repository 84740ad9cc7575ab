"""Exporting an encoder as a trunk, which the heads of many signals share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from modelmill.compression.options import GRAPH_METHODS
from modelmill.compression.quantization import CALIBRATION_ROWS, GraphMethod
from modelmill.models.bundle import BundleInfo
from modelmill.models.classifier import mean_over_tokens, parameter_count
from modelmill.models.image_encoder import ImageEncoder
from modelmill.models.onnx_export import check_parity, encode_masked, export_graph, image_inputs
from modelmill.tokens.images import ImageInput
from modelmill.tokens.token_ids import Tokens
from modelmill.tokens.tokenizer import encode, load_tokenizer

_CALIBRATION_TOKENS = 64
_PARITY_IMAGES = 4
_PARITY_TEXTS = (
    "",
    "a",
    "A trunk is exported once.",
    "many heads stand on it, and each of them is small " * 20,
)


class _Trunk(nn.Module):
    """An encoder and the mean over its tokens."""

    def __init__(self, encoder: Any, *, states: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.states = states

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden = encode_masked(self.encoder, input_ids, attention_mask)
        features = mean_over_tokens(hidden, attention_mask)  # (batch, hidden)
        return (features, hidden) if self.states else (features,)


def make_trunk(
    encoder: Any,
    bundle: Path,
    *,
    tokenizer: Path,
    text: str,
    max_tokens: int,
    method: str = "int8_dynamic",
    states: bool = False,
) -> float:
    """Write a trunk's bundle.

    :param encoder: a transformers encoder, on the CPU.
    :param bundle: folder to write; replaced if it exists.
    :param tokenizer: ``tokenizer.json`` to copy.
    :param text: column that is read as text by default.
    :param max_tokens: tokens of a text that it reads.
    :param method: a name in :data:`modelmill.compression.options.GRAPH_METHODS`.
    :param states: whether it also gives the features of each token.
    :return: largest difference of a feature between PyTorch and the fp32 export.
    :raises ModelError: if it cannot be exported, or differs by more than
        :data:`modelmill.models.onnx_export.PARITY`.
    """
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir(parents=True)
    module = _Trunk(encoder, states=states).eval()
    outputs = ["features", "states"] if states else ["features"]
    plain = bundle.with_name(f".{bundle.name}-plain.onnx")
    shutil.copyfile(tokenizer, bundle / "tokenizer.json")
    export_graph(module, plain, encoder=encoder, outputs=outputs)
    tokenize = load_tokenizer(bundle, max_tokens=max_tokens)
    tokens = encode(tokenize, _PARITY_TEXTS)
    difference = check_parity(module, plain, tokens, output="features")
    rows = random_rows(
        tokens[0],
        tokenize.get_vocab_size(),
        rows=CALIBRATION_ROWS,
        tokens=min(max_tokens, _CALIBRATION_TOKENS),
    )
    quantize_graph: GraphMethod = GRAPH_METHODS.load(method)
    quantize_graph(plain, bundle / "model.onnx", rows)
    plain.unlink()
    info = BundleInfo(
        format="trunk",
        text=text,
        max_tokens=max_tokens,
        parameters=parameter_count(encoder),
        features=encoder.config.hidden_size,
        states=states,
    )
    info.save(bundle)
    return difference


def make_image_trunk(encoder: ImageEncoder, bundle: Path, *, image: str) -> float:
    """Write a trunk's bundle for images: standardisation of pixels is part of its graph.

    :param encoder: the encoder, on the CPU, in evaluation mode.
    :param bundle: folder to write; replaced if it exists.
    :param image: column that is read as image by default.
    :return: largest difference of a feature between PyTorch and the export.
    :raises ModelError: if it cannot be exported, or differs by more than
        :data:`modelmill.models.onnx_export.PARITY`.
    """
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir(parents=True)
    settings = encoder.settings
    settings.save(bundle)
    inputs = image_inputs(settings.height, settings.width)
    path = bundle / "model.onnx"
    export_graph(encoder, path, encoder=encoder.model, outputs=["features"], inputs=inputs)
    tokens = random_images(settings, rows=_PARITY_IMAGES)
    difference = check_parity(encoder, path, tokens, output="features", inputs=inputs)
    BundleInfo(
        format="trunk",
        content="image",
        text=image,
        max_tokens=settings.numbers,
        parameters=sum(weight.numel() for weight in encoder.model.parameters()),
        features=encoder.features,
        early_features=encoder.early_features,
    ).save(bundle)
    return difference


def random_images(settings: ImageInput, *, rows: int) -> Tokens:
    """Make images of random pixels, from dark ones to bright ones; the same for the same arguments."""
    random = np.random.default_rng(0)
    brightest = np.linspace(1, 256, rows).astype(np.int64)[:, None]
    pixels = random.integers(0, brightest, (rows, settings.numbers)).astype(np.uint8)
    return Tokens.packed(pixels.reshape(-1), np.full(rows, settings.numbers, dtype=np.int64))


def random_rows(empty: npt.NDArray[np.integer], vocabulary: int, *, rows: int, tokens: int) -> Tokens:
    """Make rows of random tokens: which features are large hardly depends on the text.

    :param empty: tokens of an empty text; each row ends with the last one and begins with those before.
    :param vocabulary: number of token ids.
    :param rows: number of rows.
    :param tokens: most tokens of a row, more than an empty text has.
    :return: the rows, the same for the same arguments.
    """
    random = np.random.default_rng(0)
    lengths = random.integers(1, tokens - len(empty), rows, endpoint=True)
    inner = [random.integers(0, vocabulary, length) for length in lengths]
    return Tokens.of([np.concatenate([empty[:-1], ids, empty[-1:]]) for ids in inner])
