"""Trains a pretrained encoder on a label of a dataset."""

from __future__ import annotations

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.errors import ConfigError
from modelmill.settings import Settings
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
    from modelmill.registry.bundles import encoder_folder, log_model
    from modelmill.tasks.examples import read_labelled
    from modelmill.tokens.cache import DatasetTexts
    from modelmill.training.fine_tuning import fine_tune
    from modelmill.training.learning_curve import FIGURE_PATH, learning_curve

    dataset, options = inputs.dataset, config
    if inputs.base is not None:
        folder = encoder_folder(inputs.base, context.cache)
        options = config.model_copy(update={"base_model": str(folder)})
    data = read_labelled(dataset, label=config.label)
    context.run.log_dataset(dataset, context="training", rows=len(data.train) + len(data.validation))
    kind = content_of_base(options.base_model)
    trained = fine_tune(data, DatasetTexts(dataset, context, kind), options, context)
    context.run.log_figure(learning_curve(trained.history, title=context.step), FIGURE_PATH)
    # Behind the epochs' figures, which are the encoder's alone: MLflow takes the last one for the run's.
    context.run.log_metrics(trained.metrics, step=trained.history.steps + 1)
    model = log_model(
        trained.folder,
        role="teacher",
        dataset=dataset,
        context=context,
        parent=inputs.base,
        metrics=trained.metrics,
    )
    return ModelOutputs(model=model)


def _base_model(config: FineTuneConfig, _inputs: FineTuneInputs, settings: Settings) -> str:
    from modelmill.models.base_model_folder import base_model_state

    memory = settings.home / "cache" / "digests"
    return base_model_state(config.base_model, memory=memory) if config.base_model else ""


fine_tune = Component(
    name="fine_tune",
    title="Fine-tune",
    group="Train",
    config=FineTuneConfig,
    inputs=FineTuneInputs,
    outputs=ModelOutputs,
    run=run,
    outside_state=_base_model,
    check=check,
    either=("base_model", "base"),
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
