"""Quantisation: from a trained model to the one file that serves."""

from __future__ import annotations

import shutil
from pathlib import Path

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.compression.options import TORCH_METHOD_NAMES
from modelmill.compression.quantization_methods import CALIBRATION_ROWS, method_named
from modelmill.datasets.examples import split_places
from modelmill.errors import DatasetError, ModelError
from modelmill.models.bundle import BundleInfo, bundle_bytes
from modelmill.models.classifier import load_classifier, save_classifier
from modelmill.models.onnx_export import check_parity, export_onnx
from modelmill.models.scorers import load_scorer
from modelmill.steps.quantize import QuantizeConfig
from modelmill.tokens.cache import tokenised
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.tokens.tokenizer import encode, load_tokenizer

_PARITY_ROWS = 16
_DRIFT_ROWS = 2000


def run(config: QuantizeConfig, dataset: DatasetRef, model: ModelRef, context: StepContext) -> ModelRef:
    """Make the file that serves, and check that it still gives the same answers.

    :param config: how.
    :param dataset: its validation split is what the answers are compared on (without one, its train split).
    :param model: a ``torch`` model.
    :param context: the step.
    :return: the logged model, role ``exported``.
    :raises ModelError: if it cannot be exported, or changes too many answers; then nothing is logged.
    :raises ConfigError: if the method needs a GPU that is not here.
    """
    from modelmill.registry.bundles import fetch_bundle, log_model

    source = fetch_bundle(model, context.cache)
    places, info = _places(dataset), BundleInfo.load(source)
    tokens = tokenised(
        dataset, source, max_length=info.max_tokens, cache=context.cache, log=context.log
    ).take(places)
    bundle = context.workdir / "bundle"
    make = _in_torch if config.method in TORCH_METHOD_NAMES else _exported
    difference = make(config.method, source, bundle, tokens, context)
    metrics = {
        "drift": check_drift(bundle, source, tokens, limit=config.max_drift),
        **difference,
        "bytes": float(bundle_bytes(bundle)),
        "size_ratio": bundle_bytes(source) / bundle_bytes(bundle),
    }
    context.run.log_metrics(metrics)
    context.run.log_dataset(dataset, context="validation", rows=len(tokens))
    context.log(
        f"{config.method}: {metrics['bytes'] / 1e6:.1f} MB, {metrics['size_ratio']:.2f} times smaller; "
        f"{metrics['drift']:.2%} of {len(tokens)} answers changed"
    )
    return log_model(bundle, role="exported", dataset=dataset, context=context, parent=model, metrics=metrics)


def _exported(
    method: str, source: Path, bundle: Path, tokens: Tokens, context: StepContext
) -> dict[str, float]:
    """Write an ``onnx`` bundle; return how far its fp32 graph is from PyTorch."""
    classifier, info = load_classifier(source), BundleInfo.load(source)
    plain = context.workdir / "plain.onnx"
    export_onnx(classifier, plain)
    nothing = encode(load_tokenizer(source, max_tokens=info.max_tokens), [""])
    difference = check_parity(classifier, plain, Tokens.of([*nothing, *tokens.take(slice(_PARITY_ROWS))]))
    context.log(f"exported; logits differ from PyTorch's by at most {difference:.1e}")
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir()
    method_named(method)(plain, bundle / "model.onnx", tokens.take(slice(CALIBRATION_ROWS)))
    shutil.copyfile(source / "tokenizer.json", bundle / "tokenizer.json")
    info.model_copy(update={"format": "onnx"}).save(bundle)
    return {"export_difference": difference}


def _in_torch(
    method: str, source: Path, bundle: Path, _tokens: Tokens, context: StepContext
) -> dict[str, float]:
    """Write a ``torchao`` bundle."""
    from modelmill.compression.torch_methods import TORCH_METHODS, quantise_encoder
    from modelmill.models.torchao import write_quantised

    classifier = quantise_encoder(load_classifier(source), method)
    device = "cuda" if TORCH_METHODS[method].capability else None
    info = BundleInfo.load(source).model_copy(update={"format": "torchao", "device": device})
    save_classifier(classifier, bundle, tokenizer=source / "tokenizer.json", info=info, write=write_quantised)
    context.log("quantised by torchao: the file runs in PyTorch")
    return {}


def _places(dataset: DatasetRef) -> Places:
    places = split_places(dataset, "validation")[:_DRIFT_ROWS]
    places = places if len(places) else split_places(dataset, "train")[:_DRIFT_ROWS]
    if not len(places):
        raise DatasetError(
            "a dataset must have validation or train rows to compare answers on",
            got=str(dataset),
            remedy="change the split",
        )
    return places


def check_drift(bundle: Path, source: Path, tokens: Tokens, *, limit: float) -> float:
    """Check how many answers a compressed model changes.

    :param bundle: the compressed model.
    :param source: the model that it was made from.
    :param tokens: at least one row, as the tokenizer of both makes it.
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
