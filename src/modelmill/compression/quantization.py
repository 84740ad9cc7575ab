"""Quantisation: from a trained model to the one file that serves."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.compression.components import QuantizeConfig
from modelmill.compression.export import check_parity, export_onnx
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
    METHODS[config.method](plain, bundle / "model.onnx")
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


def int8_dynamic(source: Path, target: Path) -> None:
    """Quantise weights and embeddings to int8, one scale per output channel; activations as they come.

    Weights use 7 of the 8 bits whatever this machine has: the file may serve on a CPU without VNNI, whose
    16-bit sums would saturate, and should be the same file wherever it is made.

    :param source: fp32 model.
    :param target: file to write.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_suffix(".prepared.onnx")
    root = logging.getLogger()
    level = root.level
    # It recommends, on the root logger, the very preparation that is done here.
    root.setLevel(logging.ERROR)
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            str(prepared),
            str(target),
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            nodes_to_exclude=_lexical_nodes(prepared),
        )
    finally:
        root.setLevel(level)
        prepared.unlink(missing_ok=True)


def _lexical_nodes(path: Path) -> list[str]:
    """Return the look-ups of the lexical head: small tables with one scale for all would lose rare words."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return [node.name for node in graph.node if any("lexical" in name for name in node.input)]


def fp32(source: Path, target: Path) -> None:
    """Keep the weights as they are.

    :param source: fp32 model.
    :param target: file to write.
    """
    shutil.copyfile(source, target)


METHODS: Mapping[str, Callable[[Path, Path], None]] = {"int8_dynamic": int8_dynamic, "none": fp32}
"""What makes the serving file of the fp32 export, by the configuration's method."""
