"""The step ``quantize``."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.compression.options import AnyMethodName
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources


class QuantizeConfig(Config):
    """Quantise a model: the file that serves, in ONNX Runtime, or on a GPU in PyTorch."""

    method: AnyMethodName = Field(
        "int8_dynamic",
        description="int8_dynamic: int8 weights, activations quantised as they come; int8_static: by scales "
        "that some rows give; int8_weights, int4_weights: activations stay fp32; none: fp32. For GPUs, in "
        "PyTorch: int8_torch, int4_torch: weights alone; fp8_torch: activations as well.",
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
