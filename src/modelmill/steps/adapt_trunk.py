"""Lets an encoder read the texts of many tables, without labels: the large model that all data flows into."""

from __future__ import annotations

from modelmill.artifacts import ModelRef, TableRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.errors import ConfigError
from modelmill.settings import Settings
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources
from modelmill.training.options import AdaptationOptions


class AdaptTrunkConfig(AdaptationOptions, Config):
    """Let an encoder read the texts of any number of tables, without labels (continued pretraining).

    What comes out is a base model: give it to ``trunk``, or to ``fine_tune`` as its base.
    """


class AdaptTrunkInputs(Inputs):
    """The tables to read, and an encoder that has been adapted before: it goes on with what is new to it."""

    tables: tuple[TableRef, ...]
    model: ModelRef | None = None


def check(config: AdaptTrunkConfig) -> None:
    """Check that the base model is an encoder of texts, if it is on this machine."""
    from modelmill.models.base_model_folder import check_base_model

    if config.base_model and check_base_model(config.base_model, max_tokens=config.max_tokens) == "image":
        raise ConfigError(
            "adapt_trunk hides words, and the base model reads images",
            got=config.base_model,
            remedy="take an encoder of texts",
        )


def run(config: AdaptTrunkConfig, inputs: AdaptTrunkInputs, context: StepContext) -> ModelOutputs:
    """Read the tables, train, and log the model with the role ``base``."""
    import numpy as np

    from modelmill.datasets.distinct_texts import TextSource, distinct_texts
    from modelmill.models.language_model import read_text_keys
    from modelmill.registry.bundles import encoder_folder, log_model
    from modelmill.training.adaptation import LEAST_TEXTS, adapt_encoder
    from modelmill.training.learning_curve import FIGURE_PATH, learning_curve

    known, options = np.zeros(0, dtype=np.uint64), config
    if (inputs.model is None) == (not config.base_model):
        raise ConfigError(
            "adapt_trunk begins with one encoder: that of the input model, or a base model",
            got="neither" if inputs.model is None else "both",
            remedy="give the input model, or base_model in the configuration",
        )
    if inputs.model is not None:
        folder = encoder_folder(inputs.model, context.cache)
        known = read_text_keys(folder)
        options = config.model_copy(update={"base_model": str(folder)})
    source = TextSource(config.columns, config.split, config.held_out, config.max_rows)
    texts = distinct_texts(inputs.tables, source, known=known.tolist())
    for table in inputs.tables:
        context.run.log_dataset(table, context="training")
    context.run.log_json(
        {"tables": [str(table) for table in inputs.tables], "texts": vars(texts.counts)}, "texts.json"
    )
    if inputs.model is not None and len(texts.train) < LEAST_TEXTS:
        context.log(f"{texts.counts}; fewer than {LEAST_TEXTS} are new, so the model stays as it is")
        return ModelOutputs(model=inputs.model)
    adapted = adapt_encoder(texts, options, context, learned_before=known)
    context.run.log_figure(learning_curve(adapted.history, title=context.step), FIGURE_PATH)
    context.run.log_metrics(dict(adapted.metrics) | {"texts_learned": float(adapted.counts.learned)})
    model = log_model(
        adapted.folder, role="base", context=context, parent=inputs.model, metrics=adapted.metrics
    )
    return ModelOutputs(model=model)


def _base_model(config: AdaptTrunkConfig, _inputs: AdaptTrunkInputs, settings: Settings) -> str:
    from modelmill.models.base_model_folder import base_model_state

    memory = settings.home / "cache" / "digests"
    return base_model_state(config.base_model, memory=memory) if config.base_model else ""


adapt_trunk = Component(
    name="adapt_trunk",
    title="Adapt trunk",
    group="Train",
    config=AdaptTrunkConfig,
    inputs=AdaptTrunkInputs,
    outputs=ModelOutputs,
    run=run,
    outside_state=_base_model,
    check=check,
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
