"""Trains a pretrained encoder on a label of a dataset."""

from __future__ import annotations

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.errors import ConfigError
from modelmill.steps.learning import base_state, log_trained, on_encoder
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources
from modelmill.training.options import FineTuningOptions, LabelOptions, LoraTuning


class FineTuneConfig(FineTuningOptions, LabelOptions, Config):
    """Fine-tune a pretrained encoder on a dataset: the large model, the teacher."""


class FineTuneInputs(Inputs):
    """The dataset to learn from, and an encoder of adapt_trunk in place of a base model."""

    dataset: DatasetRef
    base: ModelRef | None = None


def check(config: FineTuneConfig) -> None:
    """Check that the base model can be trained and exported, if it is on this machine."""
    from modelmill.models.base_model_folder import check_base_model

    if not config.base_model:
        return  # the input base says which
    kind = check_base_model(config.base_model, max_tokens=config.max_tokens)
    if kind == "image" and isinstance(config.mode, LoraTuning):
        raise ConfigError(
            "LoRA is for encoders of texts: those of images are small",
            got=config.base_model,
            remedy="set mode: {kind: last_layers, layers: 1}, or leave it empty",
        )


def run(config: FineTuneConfig, inputs: FineTuneInputs, context: StepContext) -> ModelOutputs:
    """Fine-tune, and log the model with the role ``teacher``."""
    from modelmill.models.base_model_folder import content_of_base
    from modelmill.tasks.examples import read_labelled
    from modelmill.tokens.cache import DatasetTexts
    from modelmill.training.fine_tuning import fine_tune

    dataset = inputs.dataset
    options = on_encoder(config, inputs.base, context)
    data = read_labelled(dataset, label=config.label)
    context.run.log_dataset(dataset, context="training", rows=data.rows)
    texts = DatasetTexts(dataset, context, content_of_base(options.base_model))
    trained = fine_tune(data, texts, options, context)
    return log_trained(trained, role="teacher", dataset=dataset, parent=inputs.base, context=context)


fine_tune = Component(
    name="fine_tune",
    title="Fine-tune",
    group="Train",
    config=FineTuneConfig,
    inputs=FineTuneInputs,
    outputs=ModelOutputs,
    run=run,
    outside_state=base_state,
    check=check,
    either=("base_model", "base"),
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
