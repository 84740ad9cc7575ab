"""What steps that train a model have in common: base models, and what is logged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import Config, Inputs, StepContext
from modelmill.errors import ConfigError, ModelError
from modelmill.settings import Settings
from modelmill.steps.ports import ModelOutputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from modelmill.compression.pruning.prune import PrunedModel
    from modelmill.training.state import TrainingHistory
    from modelmill.training.trained_model import TrainedModel

ConfigT = TypeVar("ConfigT", bound=Config)


def check_reads_texts(config: Any, rule: str) -> None:
    """Check that the base model is an encoder of texts, if it is on this machine; ``rule`` says why."""
    from modelmill.models.base_model_folder import check_base_model

    if config.base_model and check_base_model(config.base_model, max_tokens=config.max_tokens) == "image":
        raise ConfigError(
            f"{rule}, and the base model reads images",
            got=config.base_model,
            remedy="take an encoder of texts",
        )


def base_state(config: Any, _inputs: Inputs, settings: Settings) -> str:
    """Return the state of the configuration's base model: part of the step key."""
    return state_of_base(config.base_model, settings)


def state_of_base(name: str | None, settings: Settings) -> str:
    """Return the state of a base model that a configuration may name."""
    from modelmill.models.base_model_folder import base_model_state

    return base_model_state(name, memory=settings.digests) if name else ""


def on_encoder(config: ConfigT, encoder: ModelRef | None, context: StepContext) -> ConfigT:
    """Return the configuration with the files of an encoder as its base model, if there is an encoder.

    :param config: with a field ``base_model``.
    :param encoder: a model of format ``encoder``; None: the base model is what the configuration says.
    :param context: its cache gets the files.
    :return: the configuration.
    :raises ModelError: if it is a model of another format, or its files are not those that were logged.
    """
    from modelmill.registry.bundles import fetch_bundle

    if encoder is None:
        return config
    if encoder.format != "encoder":
        raise ModelError(
            "a base model is one of format encoder",
            got=f"{encoder.format}, {encoder.uri}",
            remedy="take the output of adapt_trunk, or name a base_model",
        )
    return config.model_copy(update={"base_model": str(fetch_bundle(encoder, context.cache))})


def log_curve(history: TrainingHistory, context: StepContext) -> None:
    """Log the plot of a training."""
    context.run.log_figure(_learning_curve(history, title=context.step), "plots/learning_curve.png")


def _learning_curve(history: TrainingHistory, *, title: str) -> Figure:
    """Plot the loss by optimizer step, and the metric by which epochs are chosen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*history.curve, strict=True), color="tab:blue", label="training loss")
    axes.set(xlabel="optimizer step", ylabel="training loss", title=f"{title}: learning curve")
    axes.set_ylim(bottom=0)
    handles = axes.get_lines()
    if history.epochs:
        right = axes.twinx()
        name = f"validation {next(iter(history.epochs[0][1]))}"
        steps = [step for step, _ in history.epochs]
        values = [next(iter(found.values())) for _, found in history.epochs]
        right.plot(steps, values, "o--", color="tab:orange", label=name)
        right.set_ylabel(name)
        handles = [*handles, *right.get_lines()]
    axes.legend(handles=handles, loc="center right")
    return figure


def log_trained(
    trained: TrainedModel | PrunedModel,
    *,
    role: str,
    dataset: DatasetRef,
    parent: ModelRef | None,
    context: StepContext,
) -> ModelOutputs:
    """Log a model that has learnt from a dataset: the plot of its training, its figures, its bundle."""
    from modelmill.registry.bundles import log_model

    if trained.history:
        log_curve(trained.history, context)
    # Behind the epochs' figures, which are the encoder's alone: MLflow takes the last one for the run's.
    behind = trained.history.steps + 1 if trained.history else 0
    context.run.log_metrics(trained.metrics, step=behind)
    model = log_model(
        trained.folder, role=role, dataset=dataset, context=context, parent=parent, metrics=trained.metrics
    )
    return ModelOutputs(model=model)


def log_encoder(
    folder: Path,
    metrics: Mapping[str, float],
    *,
    parent: ModelRef | None,
    registered_name: str | None,
    context: StepContext,
    tags: Mapping[str, str] | None = None,
) -> ModelOutputs:
    """Log an encoder with the role ``base``, and register it if it has a name."""
    from modelmill.registry.bundles import log_model
    from modelmill.registry.versions import register

    model = log_model(folder, role="base", context=context, parent=parent, metrics=metrics, more_tags=tags)
    if registered_name:
        version = register(context.run.client, registered_name, model)
        context.log(f"it is version {version.version} of {registered_name}")
    return ModelOutputs(model=model)
