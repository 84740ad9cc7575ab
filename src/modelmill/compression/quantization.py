"""Quantisation: from a trained model to the one file that serves."""

from __future__ import annotations

import shutil
from pathlib import Path

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.compression.components import QuantizeConfig
from modelmill.compression.export import check_parity, export_onnx
from modelmill.compression.methods import CALIBRATION_ROWS, method_named
from modelmill.data.token_cache import tokenised
from modelmill.data.tokens import Places, Tokens
from modelmill.errors import DatasetError, ModelError
from modelmill.pipeline.component import StepContext
from modelmill.serving.bundle import BundleInfo, bundle_bytes
from modelmill.serving.runtime import agreement, encode, load_scorer, load_tokenizer
from modelmill.training.classifier import load_classifier
from modelmill.training.examples import split_places

_PARITY_ROWS = 16
_DRIFT_ROWS = 2000


def run(config: QuantizeConfig, dataset: DatasetRef, model: ModelRef, context: StepContext) -> ModelRef:
    """Export a model to ONNX, quantise it, and check that it still gives the same answers.

    :param config: how.
    :param dataset: its validation split is what the answers are compared on (without one, its train split).
    :param model: a ``torch`` model.
    :param context: the step.
    :return: the logged model, role ``exported``.
    :raises ModelError: if it cannot be exported, or changes too many answers; then nothing is logged.
    """
    from modelmill.registry.models import fetch_bundle, log_model

    source = fetch_bundle(model, context.cache)
    places = _places(dataset)
    classifier = load_classifier(source)
    info = BundleInfo.load(source).model_copy(update={"format": "onnx"})
    plain = context.workdir / "plain.onnx"
    export_onnx(classifier, plain)
    tokens = tokenised(
        dataset, source, max_length=info.max_tokens, cache=context.cache, log=context.log
    ).take(places)
    nothing = encode(load_tokenizer(source, max_tokens=info.max_tokens), [""])
    parity = Tokens.of([*nothing, *tokens.take(slice(_PARITY_ROWS))])
    difference = check_parity(classifier, plain, parity)
    context.log(f"exported; logits differ from PyTorch's by at most {difference:.1e}")
    bundle = context.workdir / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir()
    method_named(config.method)(plain, bundle / "model.onnx", tokens.take(slice(CALIBRATION_ROWS)))
    shutil.copyfile(source / "tokenizer.json", bundle / "tokenizer.json")
    info.save(bundle)
    metrics = {
        "drift": check_drift(bundle, source, tokens, limit=config.max_drift),
        "export_difference": difference,
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
    share = 1 - agreement(load_scorer(bundle).score(tokens), load_scorer(source).score(tokens))
    if share > limit:
        raise ModelError(
            f"quantisation may change at most {limit:.2%} of the answers (max_drift), on {len(tokens)} rows",
            got=f"{share:.2%}",
            remedy="take method none, raise max_drift, or train the model longer",
        )
    return share
