"""Quantisation as a step: smaller, hardly another answer, and refused if it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import StepContext
from modelmill.compression.options import GRAPH_METHODS
from modelmill.compression.quantization.quantize import check_drift
from modelmill.errors import ConfigError, ModelError
from modelmill.models.bundle import bundle_bytes
from modelmill.models.classifier import load_classifier, save_classifier
from modelmill.models.scorers import load_scorer
from modelmill.registry.bundles import fetch_bundle
from modelmill.steps import fine_tune, quantize
from modelmill.steps.fine_tune import FineTuneConfig, FineTuneInputs
from modelmill.steps.quantize import QuantizeConfig
from modelmill.tokens.tokenizer import encode, load_tokenizer


@pytest.fixture
def trained(encoder_only: FineTuneConfig, topic_dataset: DatasetRef, step_context: StepContext) -> ModelRef:
    return fine_tune.run(encoder_only, FineTuneInputs(dataset=topic_dataset), step_context).model


@pytest.fixture
def encoder_only(tiny_base_model: Path) -> FineTuneConfig:
    return FineTuneConfig(
        base_model=str(tiny_base_model),
        epochs=6,
        batch_size=8,
        learning_rate=3e-3,
        head_learning_rate=1e-2,
        frozen_layers=0,
        max_tokens=16,
        lexical_tokens=0,
        dropout=0.1,
    )


def quantized(config: QuantizeConfig, dataset: DatasetRef, model: ModelRef, context: StepContext) -> ModelRef:
    return quantize.run(config, quantize.QuantizeInputs(dataset=dataset, model=model), context).model


def later(context: StepContext) -> StepContext:
    folder = context.workdir / "later"
    folder.mkdir()
    return dataclasses.replace(context, workdir=folder)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'int8_static'"):
        QuantizeConfig(method="int8_statik")
    with pytest.raises(ConfigError) as caught:
        GRAPH_METHODS.load("int3")
    assert str(caught.value).startswith("a method of quantisation must be known; got 'int3'; allowed: ")


@pytest.mark.parametrize("method", ["int8_dynamic", "int8_static", "int8_weights", "int4_weights"])
def test_other_methods_answer_alike_alone_and_in_company(
    method: str, trained: ModelRef, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    exported = quantized(QuantizeConfig(method=method), topic_dataset, trained, later(step_context))
    scorer = load_scorer(fetch_bundle(exported, step_context.cache))
    whole = load_scorer(fetch_bundle(trained, step_context.cache))
    texts = ["the goal match today", "a bank loan today", "goal", ""]
    assert scorer.predict(texts[:2]) == ["sport", "trade"]
    first, second = scorer.logits(texts), whole.logits(texts)
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    if method != "int4_weights":  # 32 features leave 4 bits little to hide in
        assert cosine.min() > 0.99
    assert np.concatenate([scorer.logits([text]) for text in texts]).tobytes() == first.tobytes()


def test_int8_is_smaller_and_answers_alike(
    trained: ModelRef, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    exported = quantized(QuantizeConfig(), topic_dataset, trained, later(step_context))
    assert (exported.role, exported.format, exported.parent) == ("exported", "onnx", trained.uri)
    bundle = fetch_bundle(exported, step_context.cache)
    graph = onnx.load(bundle / "model.onnx").graph
    stored = {item.data_type for item in graph.initializer if len(item.dims) == 2}
    # The embeddings too: only vectors (biases, norms, scales) are floating-point numbers.
    assert {onnx.TensorProto.INT8} <= stored
    assert onnx.TensorProto.FLOAT not in stored
    assert "MatMulInteger" in {node.op_type for node in graph.node}
    texts = ["the goal match today", "a bank loan today"]
    assert load_scorer(bundle).predict(texts) == ["sport", "trade"]
    metrics = step_context.run.client.get_run(step_context.run.run_id).data.metrics
    assert metrics["drift"] <= 0.05
    assert metrics["bytes"] == bundle_bytes(bundle)
    assert metrics["export_difference"] < 1e-4


def test_the_words_are_exported_with_the_encoder(
    encoder_only: FineTuneConfig, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    config = encoder_only.model_copy(update={"lexical_tokens": 24, "max_tokens": 8})
    trained = fine_tune.run(config, FineTuneInputs(dataset=topic_dataset), step_context).model
    exported = quantized(QuantizeConfig(), topic_dataset, trained, later(step_context))
    whole = load_scorer(fetch_bundle(trained, step_context.cache))
    small = load_scorer(fetch_bundle(exported, step_context.cache))
    # Beyond the encoder's 8 tokens, which say nothing, the words decide.
    texts = ["the a of and today with new said goal", "the a of and today with new said bank", ""]
    assert small.predict(texts[:2]) == whole.predict(texts[:2]) == ["sport", "trade"]
    assert abs(small.logits(texts) - whole.logits(texts)).max() < 0.2
    alone = [small.logits([text])[0].tolist() for text in texts]
    assert small.logits(texts).tolist() == alone


def test_a_change_of_too_many_answers_is_refused(
    trained: ModelRef, step_context: StepContext, tmp_path: Path
) -> None:
    source = fetch_bundle(trained, step_context.cache)
    model = load_classifier(source)
    with torch.no_grad():
        model.head.weight.neg_()
        model.head.bias.neg_()
    info = load_scorer(source).info
    save_classifier(model, tmp_path / "other", tokenizer=source / "tokenizer.json", info=info)
    tokenizer = load_tokenizer(source, max_tokens=info.max_tokens)
    tokens = encode(tokenizer, ["the goal match today", "a bank loan today"])
    assert check_drift(source, source, tokens, limit=0.01) == 0.0
    with pytest.raises(ModelError) as caught:
        check_drift(tmp_path / "other", source, tokens, limit=0.05)
    assert str(caught.value) == (
        "quantisation may change at most 5.00% of the answers (max_drift), on 2 rows; got '100.00%'; "
        "take method none, raise max_drift, or train the model longer"
    )


def test_a_model_that_is_exported_already_is_refused(
    trained: ModelRef, topic_dataset: DatasetRef, step_context: StepContext
) -> None:
    context = later(step_context)
    exported = quantized(QuantizeConfig(method="none"), topic_dataset, trained, context)
    with pytest.raises(ModelError) as caught:
        quantized(QuantizeConfig(), topic_dataset, exported, context)
    assert str(caught.value) == (
        "only a model of format torch can be trained, distilled or exported; got 'onnx'; "
        "take the output of fine_tune or distill"
    )
