"""Makes the file that serves: a trained model is exported and quantised, and its answers are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.artifacts import ContentKind, DatasetRef, ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.compression.options import QUANTIZATION_EXTENSIONS, QuantizationOptions, unfit_method
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources

if TYPE_CHECKING:
    from modelmill.tokens.token_ids import Places

_ROWS = 2000
"""Rows on which answers are compared."""


class QuantizeConfig(QuantizationOptions, Config):
    """Quantise a model: the file that serves, in ONNX Runtime, or on a GPU in PyTorch."""


class QuantizeInputs(Inputs):
    """The model, and the dataset whose validation split it is checked on."""

    dataset: DatasetRef
    model: ModelRef


def run(config: QuantizeConfig, inputs: QuantizeInputs, context: StepContext) -> ModelOutputs:
    """Quantise the model, and log it with the role ``exported``.

    :param config: the method, and how many answers may change.
    :param inputs: the model, and the dataset whose validation split it is checked on.
    :param context: the step.
    :return: the logged model.
    :raises ModelError: if it cannot be exported, or changes too many answers; then nothing is logged.
    :raises ConfigError: if the method needs a GPU that this machine does not have.
    """
    from modelmill.compression.quantization.quantize import quantize
    from modelmill.models.bundle import BundleInfo
    from modelmill.registry.bundles import fetch_bundle, log_model
    from modelmill.tokens.cache import DatasetTexts

    dataset = inputs.dataset
    source = fetch_bundle(inputs.model, context.cache)
    places, info = _places(dataset), BundleInfo.load(source)
    tokens = DatasetTexts(dataset, context).tokens(source, max_tokens=info.max_tokens).take(places)
    quantized = quantize(source, tokens, options=config, workspace=context)
    metrics = quantized.metrics
    context.run.log_metrics(metrics)
    context.run.log_dataset(dataset, context="validation", rows=len(tokens))
    context.log(
        f"{config.method}: {metrics['bytes'] / 1e6:.1f} MB, {metrics['size_ratio']:.2f} times smaller; "
        f"{metrics['drift']:.2%} of {len(tokens)} answers changed"
    )
    model = log_model(
        quantized.folder,
        role="exported",
        dataset=dataset,
        context=context,
        parent=inputs.model,
        metrics=metrics,
    )
    return ModelOutputs(model=model)


def _cannot_read(config: QuantizeConfig, kind: ContentKind) -> str | None:
    unfit = unfit_method(config.method, kind)
    return None if unfit is None else str(unfit)


def _places(dataset: DatasetRef) -> Places:
    from modelmill.errors import DatasetError
    from modelmill.tasks.examples import split_places

    places = split_places(dataset, "validation")[:_ROWS]
    places = places if len(places) else split_places(dataset, "train")[:_ROWS]
    if not len(places):
        raise DatasetError(
            "a dataset must have validation or train rows to compare answers on",
            got=str(dataset),
            remedy="change the split",
        )
    return places


quantize = Component(
    name="quantize",
    title="Quantise",
    group="Compress",
    config=QuantizeConfig,
    inputs=QuantizeInputs,
    outputs=ModelOutputs,
    run=run,
    extensions=QUANTIZATION_EXTENSIONS,
    cannot_read=_cannot_read,
    resources=Resources(cpus=2, memory_gb=4),
)
