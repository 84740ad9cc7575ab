"""Exporting a classifier to ONNX: graph and weights in one file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import nn

from modelmill.errors import ModelError
from modelmill.models.classifier import Classifier, collate
from modelmill.models.image_encoder import ImageEncoder, RowEncoder
from modelmill.tokens.images import CHANNELS
from modelmill.tokens.token_ids import Tokens

PARITY = 1e-3
"""Largest accepted difference between the logits of the fp32 export and of PyTorch."""
_MASKED = -1e4
"""What is added to an attention score so that the token gets no attention."""


class _Exportable(nn.Module):
    """A classifier that reads its encoder with :func:`encode_masked`."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        ids = input_ids[:, : self.model.encoder_tokens]  # (batch, tokens)
        mask = attention_mask[:, : self.model.encoder_tokens]
        hidden = encode_masked(self.model.encoder, ids, mask)
        return self.model.combine(self.model.classify(hidden, mask), input_ids, attention_mask)


class _ExportableImages(nn.Module):
    """A classifier of images that reads pixels."""

    def __init__(self, model: Classifier, encoder: ImageEncoder) -> None:
        super().__init__()
        self.model = model
        self.encoder = encoder

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model.head(self.encoder(pixels))
        return logits


def encode_masked(encoder: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Run an encoder with a mask of plain arithmetic: what transformers builds it with does not export.

    :param encoder: a transformers encoder.
    :param input_ids: ``(batch, tokens)``.
    :param attention_mask: 1 where there is a token, ``(batch, tokens)``.
    :return: ``(batch, tokens, hidden)``.
    """
    config = encoder.config
    mask: Any = attention_mask
    # DeBERTa multiplies by the mask as it is; the others add a bias of (batch, 1, 1 or tokens, tokens).
    if config.model_type != "deberta-v2":
        mask = ((1.0 - attention_mask.to(torch.float32)) * _MASKED)[:, None, None, :]
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):  # ModernBERT
        places = torch.arange(input_ids.shape[1])
        far = (places[:, None] - places[None, :]).abs() > config.sliding_window  # (tokens, tokens)
        mask = {"full_attention": mask, "sliding_attention": mask + far.to(torch.float32) * _MASKED}
    hidden: torch.Tensor = encoder(input_ids=input_ids, attention_mask=mask)[0]
    return hidden


def export_onnx(model: Classifier, path: Path) -> None:
    """Export a model with free batch and sequence sizes.

    :param model: the model, on the CPU, in evaluation mode.
    :param path: file to write; its inputs are ``input_ids`` and ``attention_mask``, or ``pixels``; its output
        ``logits``.
    :raises ModelError: if the architecture cannot be exported.
    """
    if isinstance(model.encoder, RowEncoder):
        images, inputs = _exportable_images(model, model.encoder)
        inner = model.encoder.encoder.model
        export_graph(images, path, encoder=inner, outputs=["logits"], inputs=inputs)
    else:
        export_graph(_Exportable(model), path, encoder=model.encoder, outputs=["logits"])


def check_classifier(model: Classifier, path: Path, tokens: Tokens) -> float:
    """Check that an exported classifier answers as PyTorch does.

    :param model: what was exported, on the CPU, in evaluation mode.
    :param path: the fp32 export.
    :param tokens: some rows.
    :return: the largest difference of a logit.
    :raises ModelError: if it exceeds :data:`PARITY`.
    """
    if isinstance(model.encoder, RowEncoder):
        images, inputs = _exportable_images(model, model.encoder)
        return check_parity(images, path, tokens, inputs=inputs)
    return check_parity(model, path, tokens)


def _exportable_images(model: Classifier, encoder: RowEncoder) -> tuple[nn.Module, GraphInputs]:
    """Return a classifier of images as a graph has it, from pixels to logits, and what it takes."""
    settings = encoder.encoder.settings
    inputs = image_inputs(settings.height, settings.width)
    return _ExportableImages(model, encoder.encoder).eval(), inputs


@dataclass(frozen=True)
class GraphInputs:
    """What a graph reads of a row."""

    names: tuple[str, ...]
    example: tuple[torch.Tensor, ...]
    """Two rows, by which it is traced."""
    free: tuple[dict[int, Any], ...]
    """Of each input the axes whose size is free."""
    of: Callable[[Tokens, slice], tuple[torch.Tensor, ...]]
    """Makes the inputs of rows."""


def text_inputs() -> GraphInputs:
    """Return what a graph reads of texts: ids and mask, both ``(batch, tokens)``."""
    ids = torch.ones((2, 16), dtype=torch.long)
    mask = torch.ones((2, 16), dtype=torch.long)
    mask[1, 9:] = 0
    free = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("tokens", min=1, max=8192)}
    return GraphInputs(("input_ids", "attention_mask"), (ids, mask), (free, free), collate)


def image_inputs(height: int, width: int) -> GraphInputs:
    """Return what a graph reads of images of one size: pixels, ``(batch, 3, height, width)``, uint8."""

    def pixels(tokens: Tokens, rows: slice) -> tuple[torch.Tensor, ...]:
        part = tokens.take(rows)
        found = part.flat().astype(np.uint8).reshape(len(part), CHANNELS, height, width)
        return (torch.from_numpy(found),)

    example = torch.zeros((2, CHANNELS, height, width), dtype=torch.uint8)
    free = {0: torch.export.Dim("batch", min=1, max=4096)}
    return GraphInputs(("pixels",), (example,), (free,), pixels)


def export_graph(
    module: nn.Module,
    path: Path,
    *,
    encoder: Any,
    outputs: Sequence[str],
    inputs: GraphInputs | None = None,
) -> None:
    """Export a module that runs an encoder, with a free number of rows, and of tokens.

    :param module: takes the inputs; on the CPU.
    :param path: file to write.
    :param encoder: the transformers encoder within the module.
    :param outputs: names of what the module returns.
    :param inputs: what it takes; None: :func:`text_inputs`.
    :raises ModelError: if the architecture cannot be exported.
    """
    inputs = inputs or text_inputs()
    before = encoder.config._attn_implementation  # noqa: SLF001 (it has a setter only)
    encoder.set_attn_implementation("eager")
    for name in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                inputs.example,
                dynamo=True,
                input_names=list(inputs.names),
                output_names=list(outputs),
                dynamic_shapes=inputs.free,
                verbose=False,
            )
            if program is not None:  # as with every export by dynamo
                _drop_debug_metadata(program.model)
                program.save(path, external_data=False)
    except Exception as error:  # the exporter's errors share no base class
        raise ModelError(
            f"the model must be exportable to ONNX ({type(error).__name__}: {str(error).splitlines()[0]})",
            got=encoder.config.model_type,
            remedy="take a base model of an architecture in docs/architectures.md or docs/images.md",
        ) from error
    finally:
        encoder.set_attn_implementation(before)


def _drop_debug_metadata(model: onnx_ir.Model) -> None:
    """Drop stack traces, source paths and what else describes the export: of the same model they make
    another file in each place.
    """
    ClearMetadataAndDocStringPass()(model)
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values()]
    for value in [*values, *(value for node in graph.all_nodes() for value in node.outputs)]:
        value.metadata_props.clear()


@torch.inference_mode()
def check_parity(
    model: nn.Module,
    path: Path,
    tokens: Tokens,
    *,
    output: str = "logits",
    inputs: GraphInputs | None = None,
) -> float:
    """Check that an exported file answers as PyTorch does.

    :param model: what was exported, in evaluation mode.
    :param path: the fp32 export.
    :param tokens: some rows.
    :param output: the first output of both.
    :param inputs: what both take; None: :func:`text_inputs`.
    :return: the largest difference of a number.
    :raises ModelError: if it exceeds :data:`PARITY`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs, worst = inputs or text_inputs(), 0.0
    for row in range(len(tokens)):
        given = inputs.of(tokens, slice(row, row + 1))
        found = model(*given)
        expected = (found[0] if isinstance(found, tuple) else found).numpy()
        feed = {name: value.numpy() for name, value in zip(inputs.names, given, strict=True)}
        (exported,) = session.run([output], feed)
        worst = max(worst, float(np.abs(exported - expected).max()))
    if not worst <= PARITY:
        raise ModelError(
            f"the exported file must answer as PyTorch does, to {PARITY} in each {output.removesuffix('s')}",
            got=f"a difference of {worst:.3g}",
            remedy="report it with the model's config.json; this architecture cannot be exported yet",
        )
    return worst
