"""From the bundle of a trained model to the bundle that serves."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from modelmill.compression.options import GRAPH_METHODS, TORCH_METHODS, QuantizationOptions
from modelmill.compression.quantization import CALIBRATION_ROWS, GraphMethod
from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.classifier import load_classifier, save_classifier
from modelmill.models.onnx_export import check_parity, export_onnx
from modelmill.models.scorers import load_scorer
from modelmill.tokens.token_ids import Tokens
from modelmill.tokens.tokenizer import encode, load_tokenizer
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
    target = workspace.workdir / "bundle"
    write = _write_torch if options.method in TORCH_METHODS else _write_onnx
    difference = write(source, target, tokens, method=options.method, workspace=workspace)
    metrics = {
        "drift": check_drift(target, source, tokens, limit=options.max_drift),
        **difference,
        "bytes": float(bundle_bytes(target)),
        "size_ratio": bundle_bytes(source) / bundle_bytes(target),
    }
    return QuantizedModel(target, metrics)


def _write_onnx(
    source: Path, target: Path, tokens: Tokens, *, method: str, workspace: Workspace
) -> dict[str, float]:
    """Write an ``onnx`` bundle."""
    classifier, info = load_classifier(source), BundleInfo.load(source)
    plain = workspace.workdir / "plain.onnx"
    export_onnx(classifier, plain)
    empty = encode(load_tokenizer(source, max_tokens=info.max_tokens), [""])
    longest = tokens[int(tokens.lengths.argmax())]
    rows = Tokens.of([*empty, longest, *tokens.take(slice(_PARITY_ROWS))])
    difference = check_parity(classifier, plain, rows)
    workspace.log(f"exported; logits differ from PyTorch's by at most {difference:.1e}")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    quantize_graph: GraphMethod = GRAPH_METHODS.load(method)
    quantize_graph(plain, target / "model.onnx", tokens.take(slice(CALIBRATION_ROWS)))
    shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
    info.model_copy(update={"format": "onnx"}).save(target)
    return {"export_difference": difference}


def _write_torch(
    source: Path, target: Path, _tokens: Tokens, *, method: str, workspace: Workspace
) -> dict[str, float]:
    """Write a ``torchao`` bundle."""
    from modelmill.compression.quantization.torchao import quantize_encoder
    from modelmill.models.torchao import write_quantised

    classifier = quantize_encoder(load_classifier(source), method)
    device = "cuda" if classifier.head.weight.is_cuda else None
    info = BundleInfo.load(source).model_copy(update={"format": "torchao", "device": device})
    save_classifier(classifier, target, tokenizer=source / "tokenizer.json", info=info, write=write_quantised)
    workspace.log("quantised by torchao: the file runs in PyTorch")
    return {}


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
