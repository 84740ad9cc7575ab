"""The trunk: an encoder that many signals share, exported once, that answers nothing by itself."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from modelmill.artifacts import ModelRef
from modelmill.component import StepContext
from modelmill.compression.options import GRAPH_METHODS
from modelmill.compression.quantization import CALIBRATION_ROWS, GraphMethod
from modelmill.compression.quantization.balancing import random_rows
from modelmill.errors import ConfigError, ModelError
from modelmill.models.base_model import load_base_model
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.classifier import collate, load_classifier, mean_over_tokens, parameter_count
from modelmill.models.onnx_export import PARITY, attention_bias, export_graph
from modelmill.models.onnx_session import RowSession
from modelmill.steps.trunk import TrunkConfig
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.token_ids import Tokens
from modelmill.tokens.tokenizer import encode, load_tokenizer

_TOKENS = 128
_CALIBRATION_TOKENS = 64
_PARITY_TEXTS = (
    "",
    "a",
    "A trunk is exported once.",
    "many heads stand on it, and each of them is small " * 20,
)


@dataclass(frozen=True)
class _Source:
    encoder: Any
    tokenizer: Path
    max_tokens: int
    text: str


class _Trunk(nn.Module):
    """An encoder and the mean over its tokens."""

    def __init__(self, encoder: Any, *, states: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.states = states

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mask = attention_mask.to(torch.float32)  # (batch, tokens)
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_bias(mask))[0]
        features = mean_over_tokens(hidden, mask)  # (batch, hidden)
        return (features, hidden) if self.states else (features,)


def run(config: TrunkConfig, model: ModelRef | None, context: StepContext) -> ModelRef:
    """Export an encoder as a trunk.

    :param config: how.
    :param model: a ``torch`` model whose encoder it is; None: the configuration names a base model.
    :param context: the step.
    :return: the logged model, role ``trunk``.
    :raises ConfigError: if there is no encoder, or two.
    :raises ModelError: if it cannot be read or exported.
    """
    from modelmill.registry.bundles import log_model
    from modelmill.registry.versions import register

    source = _source(config, model, context)
    bundle = context.workdir / "bundle"
    difference = make_trunk(
        source.encoder,
        bundle,
        tokenizer=source.tokenizer,
        text=source.text,
        max_tokens=source.max_tokens,
        method=config.method,
        states=config.states,
    )
    figures = {"export_difference": difference, "bytes": float(bundle_bytes(bundle))}
    context.log(f"trunk: {figures['bytes'] / 1e6:.1f} MB; differs from PyTorch's by at most {difference:.1e}")
    logged = log_model(bundle, role="trunk", context=context, parent=model, metrics=figures)
    if config.registered_name:
        register(context.run.client, config.registered_name, logged)
    return logged


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
    :raises ModelError: if it cannot be exported, or differs by more than :data:`PARITY`.
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
    difference = _check_parity(module, plain, tokens)
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


def _source(config: TrunkConfig, model: ModelRef | None, context: StepContext) -> _Source:
    from modelmill.registry.bundles import fetch_bundle

    if (model is None) == (config.base_model is None):
        raise ConfigError(
            "a trunk is made of one encoder: that of the input model, or a base model",
            got="neither" if model is None else "both",
            remedy="give the input model, or base_model in the configuration",
        )
    if model is not None:
        folder = fetch_bundle(model, context.cache)
        info = BundleInfo.load(folder)
        encoder = load_classifier(folder).encoder
        length = config.max_tokens or info.encoder_tokens or info.max_tokens
        return _Source(encoder, folder / "tokenizer.json", length, info.text)
    length = config.max_tokens or _TOKENS
    base = load_base_model(str(config.base_model), max_tokens=length, dropout=0.0)
    return _Source(base.encoder, base.tokenizer, length, "text")


@torch.inference_mode()
def _check_parity(module: _Trunk, path: Path, tokens: Tokens) -> float:
    session, worst = RowSession(path, threads=1), 0.0
    for row in range(len(tokens)):
        expected = module(*collate(tokens, np.array([row])))[0][0].numpy()  # (hidden,)
        found: list[FloatArray] = []
        session.run(tokens.take(slice(row, row + 1)), ["features"], lambda _, values: found.extend(values))  # noqa: B023 (called at once)
        worst = max(worst, float(np.abs(found[0] - expected).max()))
    if not worst <= PARITY:
        raise ModelError(
            f"the exported trunk must give PyTorch's features, to {PARITY} in each",
            got=f"a difference of {worst:.3g}",
            remedy="report it with the model's config.json; this architecture cannot be exported yet",
        )
    return worst
