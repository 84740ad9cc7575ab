"""Trains a head for each label column of a dataset on one trunk; heads that are known already are kept."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.errors import ConfigError
from modelmill.options import Options
from modelmill.system.resources import Resources
from modelmill.training.options import HeadTrainingOptions

_FORBIDDEN_IN_NAMES = "/:"


class LabelColumns(Options):
    """Which label columns are learned."""

    labels: tuple[str, ...] = Field(
        (), description="Label columns, each a signal; empty: all of the dataset's."
    )


class TrainHeadsConfig(HeadTrainingOptions, LabelColumns, Config):
    """Train one small head for each label column on a trunk, all in one pass; each becomes its own model.

    A head that was trained on the same rows before is kept as it is: adding a label column trains one head.
    """

    prefix: str = Field(
        "", max_length=40, description="Each head is registered under this and its label column's name."
    )


class TrainHeadsInputs(Inputs):
    """The dataset with a label column for each signal, and the trunk."""

    dataset: DatasetRef
    trunk: ModelRef


class SignalsOutputs(Outputs):
    """The signals' models."""

    signals: SignalsRef


def run(config: TrainHeadsConfig, inputs: TrainHeadsInputs, context: StepContext) -> SignalsOutputs:
    """Train the heads that are not known, log and register them."""
    from modelmill.models.trunk import Trunk
    from modelmill.registry.bundles import Draft, fetch_bundle, log_models
    from modelmill.registry.signal_models import TAG_HEAD_KEY, log_signals, logged_heads
    from modelmill.registry.versions import register_all
    from modelmill.system.cpu import usable_cores
    from modelmill.tasks.examples import read_all_labelled
    from modelmill.tokens.cache import DatasetTexts
    from modelmill.training.features import row_keys
    from modelmill.training.heads import head_key, train_heads

    trunk = Trunk(fetch_bundle(inputs.trunk, context.cache), threads=usable_cores())
    dataset, kind = inputs.dataset, trunk.info.content
    text = dataset.content_column(kind)
    labels = config.labels or dataset.labels
    _check_names([f"{config.prefix}{label}" for label in labels])
    signals = read_all_labelled(dataset, labels=labels)
    tokens = DatasetTexts(dataset, context, kind).tokens(trunk.folder, max_tokens=trunk.info.max_tokens)
    rows = row_keys(tokens)
    keys = {signal.label: head_key(signal, rows, trunk, config, text=text) for signal in signals}
    known = logged_heads(inputs.trunk, context.run)
    new = [signal for signal in signals if keys[signal.label] not in known]
    context.log(f"{len(signals)} signals: {len(new)} to train, {len(signals) - len(new)} known already")
    context.run.log_dataset(dataset, context="training", rows=len(tokens))
    trained = train_heads(new, tokens, trunk, config, context, text=text) if new else {}
    drafts = [
        Draft(
            head.folder,
            trunk=inputs.trunk,
            metrics={f"{name}/{label}": value for name, value in head.metrics.items()},
            tags={TAG_HEAD_KEY: keys[label]},
        )
        for label, head in trained.items()
    ]
    logged = log_models(drafts, role="head", context=context, dataset=dataset) if drafts else []
    fresh = dict(zip(trained, logged, strict=True))
    models = {label: known[key] if key in known else fresh[label] for label, key in keys.items()}
    register_all(
        context.run.client,
        {f"{config.prefix}{label}": model for label, model in models.items()},
        experiment=context.run.experiment_id,
    )
    context.run.log_metrics({"signals": len(models), "heads_trained": len(new)})
    return SignalsOutputs(signals=log_signals(models, context))


def _check_names(names: list[str]) -> None:
    bad = [name for name in names if set(name) & set(_FORBIDDEN_IN_NAMES)]
    if bad:
        raise ConfigError(
            "the name of a registered model, prefix and label column, has no / and no :",
            got=", ".join(bad),
            remedy="change the prefix, or rename the column",
        )


train_heads = Component(
    name="train_heads",
    title="Train heads",
    group="Train",
    config=TrainHeadsConfig,
    inputs=TrainHeadsInputs,
    outputs=SignalsOutputs,
    run=run,
    resources=Resources(cpus=2, memory_gb=4),
)
