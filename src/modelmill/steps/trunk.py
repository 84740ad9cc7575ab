"""The step ``trunk``."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, ModelRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.compression.options import TrunkMethod
from modelmill.system.resources import Resources


class TrunkConfig(Config):
    """Make a trunk: the encoder that many signals share, exported once. Its heads come from train_heads."""

    base_model: str | None = Field(
        None,
        description="Folder or Hugging Face id, as in fine_tune; empty: the encoder of the input model.",
    )
    max_tokens: int | None = Field(
        None, ge=8, le=8192, description="Tokens of a text that it reads; empty: as the input model, or 128."
    )
    method: TrunkMethod = Field(
        "int8_dynamic", description="How it is quantised, as in quantize; none: fp32."
    )
    states: bool = Field(
        False, description="Also give the features of each token, which heads with attention need."
    )
    registered_name: str | None = Field(
        None,
        pattern=MODEL_NAME_PATTERN,
        description="Name of the registered model to make it a version of; empty: it is only logged.",
    )


class TrunkInputs(Inputs):
    """A fine-tuned or distilled model whose encoder becomes the trunk; without one a base model does."""

    model: ModelRef | None = None


class TrunkOutputs(Outputs):
    """The trunk."""

    trunk: ModelRef


def _run_trunk(config: TrunkConfig, inputs: TrunkInputs, context: StepContext) -> TrunkOutputs:
    from modelmill.training.trunk import run

    return TrunkOutputs(trunk=run(config, inputs.model, context))


trunk = Component(
    name="trunk",
    title="Trunk",
    group="Train",
    config=TrunkConfig,
    inputs=TrunkInputs,
    outputs=TrunkOutputs,
    run=_run_trunk,
    resources=Resources(cpus=2, memory_gb=4),
)
