"""From the bundle of a trained model to the bundle that serves."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from modelmill.compression.options import (
    GRAPH_METHODS,
    TORCH_METHODS,
    QuantizationOptions,
    unfit_method,
)
from modelmill.compression.quantization import CALIBRATION_ROWS, GraphMethod
from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.classifier import Classifier, load_classifier, save_classifier
from modelmill.models.onnx_export import check_classifier, export_onnx
from modelmill.models.scorers import load_scorer
from modelmill.tokens.contents import CONTENTS, content_of, load_reader
from modelmill.tokens.token_ids import Tokens
from modelmill.workspace import Workspace

_PARITY_ROWS = 16


@dataclass(frozen=True)
class QuantizedModel:
    """A model that has been exported and quantised."""

    folder: Path
    """Its bundle."""
    metrics: dict[str, float]
    """``drift``: share of changed answers; ``export_difference``: how far the logits of the fp32 graph are
    from PyTorch's (ONNX only); ``bytes``; ``size_ratio``: the source's bytes over those."""


def quantize(
    source: Path, tokens: Tokens, *, options: QuantizationOptions, workspace: Workspace
) -> QuantizedModel:
    """Make the bundle that serves, and check that it still gives the same answers.

    :param source: a ``torch`` bundle.
    :param tokens: rows to calibrate with and to compare answers on, as the tokenizer makes them; at least
        one.
    :param options: the method, and how many answers it may change.
    :param workspace: the bundle is the folder ``bundle`` of its work directory.
    :return: the quantised model.
    :raises ModelError: if the model cannot be exported, or too many answers change.
    :raises ConfigError: if the method needs a GPU that this machine does not have.
    """
    target, metrics = workspace.workdir / "bundle", {}
    classifier, info = load_classifier(source), BundleInfo.load(source)
    unfit = unfit_method(options.method, info.content)
    if unfit is not None:
        raise unfit
    workspace.log(f"exporting the model by {options.method}")
    if options.method in TORCH_METHODS:
        _write_torch(classifier, info, target, source=source, method=options.method)
        workspace.log("quantised by torchao: the file runs in PyTorch")
    else:
        difference = write_onnx(
            classifier,
            info,
            target,
            tokenizer=source / content_of(source).file,
            tokens=tokens,
            method=options.method,
        )
        workspace.log(f"exported; logits differ from PyTorch's by at most {difference:.1e}")
        metrics["export_difference"] = difference
    metrics |= {
        "drift": check_drift(target, source, tokens, limit=options.max_drift),
        "bytes": float(bundle_bytes(target)),
        "size_ratio": bundle_bytes(source) / bundle_bytes(target),
    }
    return QuantizedModel(target, metrics)


def write_onnx(
    model: Classifier, info: BundleInfo, target: Path, *, tokenizer: Path, tokens: Tokens, method: str
) -> float:
    """Write an ``onnx`` bundle.

    :param model: on the CPU, in evaluation mode.
    :param info: what the bundle says of itself, but for its format.
    :param target: folder to write; replaced if it exists.
    :param tokenizer: ``tokenizer.json`` to copy, or ``image.json``.
    :param tokens: rows to compare answers on and to calibrate with, as that tokenizer makes them.
    :param method: a name in :data:`modelmill.compression.options.GRAPH_METHODS`.
    :return: largest difference of a logit between PyTorch and the fp32 export.
    :raises ModelError: if the model cannot be exported.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    shutil.copyfile(tokenizer, target / CONTENTS[info.content].file)  # its name may be another
    empty = load_reader(target, max_tokens=info.max_tokens).encode(CONTENTS[info.content].examples(1)[:1])
    quantize_graph: GraphMethod = GRAPH_METHODS.load(method)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        plain = Path(scratch, "plain.onnx")
        export_onnx(model, plain)
        longest = tokens[int(tokens.lengths.argmax())]
        rows = Tokens.of([*empty, longest, *tokens.take(slice(_PARITY_ROWS))])
        difference = check_classifier(model, plain, rows)
        quantize_graph(plain, target / "model.onnx", tokens.take(slice(CALIBRATION_ROWS)))
    info.model_copy(update={"format": "onnx"}).save(target)
    return difference


def _write_torch(model: Classifier, info: BundleInfo, target: Path, *, source: Path, method: str) -> None:
    """Write a ``torchao`` bundle."""
    from modelmill.compression.quantization.torchao import quantize_encoder
    from modelmill.models.torchao import write_quantised

    quantised = quantize_encoder(model, method)
    device = "cuda" if quantised.head.weight.is_cuda else None
    said = info.model_copy(update={"format": "torchao", "device": device})
    save_classifier(quantised, target, tokenizer=source / "tokenizer.json", info=said, write=write_quantised)


def check_drift(bundle: Path, source: Path, tokens: Tokens, *, limit: float) -> float:
    """Check how many answers a compressed model changes.

    :param bundle: the compressed model.
    :param source: the model that it was made from.
    :param tokens: rows to compare, as the tokenizer of both makes them; at least one.
    :param limit: largest accepted share of changed answers.
    :return: the share.
    :raises ModelError: if it is larger.
    """
    small, large = load_scorer(bundle), load_scorer(source)
    share = 1 - large.info.task.agreement(small.score(tokens), large.score(tokens))
    if share > limit:
        raise ModelError(
            f"quantisation may change at most {limit:.2%} of the answers (max_drift), on {len(tokens)} rows",
            got=f"{share:.2%}",
            remedy="take method none, raise max_drift, or train the model longer",
        )
    return share
