"""The step ``fine_tune``."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef
from modelmill.component import Component, Inputs, StepContext
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources
from modelmill.training.options import (
    CalibrationConfig,
    ClassWeights,
    FullTuning,
    LabelConfig,
    TemperatureScaling,
    TrainingConfig,
    TuningMode,
)


class FineTuneConfig(TrainingConfig, LabelConfig):
    """Fine-tune a pretrained encoder on a dataset: the large model, the teacher."""

    frozen_layers: int = Field(2, ge=0, description="Lowest layers that keep their weights.")
    mode: TuningMode = Field(FullTuning(), description="Which weights are trained.")
    class_weights: ClassWeights = Field(
        "none", description="balanced: rows of rare classes count more, none: every row counts the same."
    )
    calibration: CalibrationConfig | None = Field(
        TemperatureScaling(),
        description="What makes probabilities of scores, fitted on the validation split; empty: nothing.",
    )
    base_model: str = Field(
        description="Folder with config.json, tokenizer.json and model.safetensors, or Hugging Face id "
        "(taken from the local cache; downloaded only with HF_HUB_OFFLINE=0)."
    )
    max_tokens: int = Field(64, ge=8, le=8192, description="Tokens of a text that the encoder reads.")
    lexical_tokens: int = Field(
        256,
        ge=0,
        le=8192,
        description="Tokens that the lexical head reads: a linear model over the words, fitted in seconds, "
        "added to the encoder's logits. 0: no lexical head.",
    )


class FineTuneInputs(Inputs):
    """The dataset to learn from."""

    dataset: DatasetRef


def _run_fine_tune(config: FineTuneConfig, inputs: FineTuneInputs, context: StepContext) -> ModelOutputs:
    from modelmill.training.fine_tuning import run

    return ModelOutputs(model=run(config, inputs.dataset, context))


fine_tune = Component(
    name="fine_tune",
    title="Fine-tune",
    group="Train",
    config=FineTuneConfig,
    inputs=FineTuneInputs,
    outputs=ModelOutputs,
    run=_run_fine_tune,
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
