"""Lets an encoder read the texts of many tables, without labels: the large model that all data flows into."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, ModelRef, TableRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.settings import Settings
from modelmill.steps.learning import check_reads_texts, log_curve, log_encoder, on_encoder, state_of_base
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources
from modelmill.training.options import AdaptationOptions


class AdaptTrunkConfig(AdaptationOptions, Config):
    """Let an encoder read the texts of any number of tables, without labels (continued pretraining).

    What comes out is a base model: give it to ``trunk``, or to ``fine_tune`` as its base.
    """

    registered_name: str | None = Field(
        None,
        pattern=MODEL_NAME_PATTERN,
        description="Name of the registered model to make it a version of. If it has versions, the step goes "
        "on from the newest, with the texts that are new to it; base_model is where the first one began.",
    )


class AdaptTrunkInputs(Inputs):
    """The tables to read, and an encoder that has been adapted before: it goes on with what is new to it."""

    tables: tuple[TableRef, ...]
    model: ModelRef | None = None


def check(config: AdaptTrunkConfig) -> None:
    """Check that the base model is an encoder of texts, if it is on this machine."""
    check_reads_texts(config, "adapt_trunk hides words")


def run(config: AdaptTrunkConfig, inputs: AdaptTrunkInputs, context: StepContext) -> ModelOutputs:
    """Read the tables, train, log the model with the role ``base``, and register it if it has a name."""
    import numpy as np
    import numpy.typing as npt

    from modelmill.datasets.distinct_texts import TextSource, distinct_texts
    from modelmill.models.language_model import read_text_keys
    from modelmill.training.adaptation import LEAST_TEXTS, adapt_encoder

    known: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
    start = _start(config, inputs, context)
    options = on_encoder(config, start, context)
    if start is not None:
        known = read_text_keys(Path(options.base_model))
    source = TextSource(config.columns, config.split, config.held_out, config.max_rows)
    texts = distinct_texts(inputs.tables, source, known=known.tolist())
    for table in inputs.tables:
        context.run.log_dataset(table, context="training")
    context.run.log_json(
        {"tables": [str(table) for table in inputs.tables], "texts": vars(texts.counts)}, "texts.json"
    )
    if start is not None and len(texts.train) < LEAST_TEXTS:
        context.log(f"{texts.counts}; fewer than {LEAST_TEXTS} are new, so the model stays as it is")
        return ModelOutputs(model=start)
    adapted = adapt_encoder(texts, options, context, learned_before=known)
    log_curve(adapted.history, context)
    context.run.log_metrics(dict(adapted.metrics) | {"texts_learned": float(adapted.counts.learned)})
    return log_encoder(
        adapted.folder,
        adapted.metrics,
        parent=start,
        registered_name=config.registered_name,
        context=context,
    )


def _start(config: AdaptTrunkConfig, inputs: AdaptTrunkInputs, context: StepContext) -> ModelRef | None:
    """Return the encoder that was adapted before; None for a base model."""
    from modelmill.registry.versions import newest_version

    if inputs.model is not None or config.registered_name is None:
        return inputs.model
    newest = newest_version(context.run.client, config.registered_name)
    if newest is not None:
        context.log(f"goes on from {newest.uri}, not from base_model")
    return newest


def _outside_state(config: AdaptTrunkConfig, inputs: AdaptTrunkInputs, settings: Settings) -> str:
    from modelmill.registry.tracking import tracking_client
    from modelmill.registry.versions import newest_version

    state = state_of_base(config.base_model, settings)
    if inputs.model is not None or config.registered_name is None:
        return state
    newest = newest_version(tracking_client(settings.tracking_uri), config.registered_name)
    return f"{state} {newest.digest if newest else 'first'}"


adapt_trunk = Component(
    name="adapt_trunk",
    title="Adapt trunk",
    group="Train",
    config=AdaptTrunkConfig,
    inputs=AdaptTrunkInputs,
    outputs=ModelOutputs,
    run=run,
    outside_state=_outside_state,
    check=check,
    either=("base_model", "model"),
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
