"""Components that make a model smaller and faster without teaching it anything new."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.pipeline.component import Component, Config, Inputs, Resources, StepContext
from modelmill.training.components import ModelOutputs


class QuantizeConfig(Config):
    """Export a model to ONNX and quantise it: the file that serves."""

    method: Literal["int8_dynamic", "none"] = Field(
        "int8_dynamic",
        description="int8_dynamic: int8 weights, activations quantised as they come; none: fp32.",
    )
    max_drift: float = Field(
        0.05, gt=0, le=1, description="Largest accepted share of validation rows whose answer changes."
    )


class QuantizeInputs(Inputs):
    """The model, and the dataset whose validation split it is checked on."""

    dataset: DatasetRef
    model: ModelRef


def _run_quantize(config: QuantizeConfig, inputs: QuantizeInputs, context: StepContext) -> ModelOutputs:
    from modelmill.compression.quantization import run

    return ModelOutputs(model=run(config, inputs.dataset, inputs.model, context))


quantize = Component(
    name="quantize",
    title="Quantise",
    group="Compress",
    config=QuantizeConfig,
    inputs=QuantizeInputs,
    outputs=ModelOutputs,
    run=_run_quantize,
    resources=Resources(cpus=2, memory_gb=4),
)
