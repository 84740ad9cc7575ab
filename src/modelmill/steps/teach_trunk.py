"""Trains one encoder on the labels of many signals: the large model that all labelled data flows into."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, DatasetRef, ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.errors import ConfigError
from modelmill.steps.learning import base_state, check_reads_texts, log_curve, log_encoder, on_encoder
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources
from modelmill.training.options import TeachingOptions


class TeachTrunkConfig(TeachingOptions, Config):
    """Train an encoder on the labels of any number of datasets at once, with a head for each of them.

    What comes out is a base model: give it to ``trunk``, on which ``train_heads`` makes the signals.
    """

    labels: tuple[str, ...] = Field(
        (), description="Label columns, of each dataset those that it has; empty: all of them."
    )
    registered_name: str | None = Field(
        None,
        pattern=MODEL_NAME_PATTERN,
        description="Name of the registered model to make it a version of; empty: it is only logged.",
    )


class TeachTrunkInputs(Inputs):
    """The datasets, and an encoder of adapt_trunk or teach_trunk in place of a base model."""

    datasets: tuple[DatasetRef, ...]
    model: ModelRef | None = None


def check(config: TeachTrunkConfig) -> None:
    """Check that the base model is an encoder of texts, if it is on this machine."""
    check_reads_texts(config, "teach_trunk trains an encoder of texts")


def run(config: TeachTrunkConfig, inputs: TeachTrunkInputs, context: StepContext) -> ModelOutputs:
    """Train, log the model with the role ``base``, and register it if it has a name."""
    import numpy as np
    import numpy.typing as npt

    from modelmill.models.language_model import read_text_keys
    from modelmill.registry.lineage import taught_tags
    from modelmill.tasks.examples import read_all_labelled
    from modelmill.tokens.cache import DatasetTexts
    from modelmill.training.multi_task import TaughtTexts, teach_encoder

    known: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
    options = on_encoder(config, inputs.model, context)
    if inputs.model is not None:
        known = read_text_keys(Path(options.base_model))
    sources, learnt = [], []
    for number, (dataset, labels) in enumerate(_labels(config, inputs.datasets).items(), 1):
        if not labels:
            context.log(f"dataset {number}: {dataset} has none of the labels, and is not read")
            continue
        context.log(f"dataset {number}: {dataset}")
        signals = read_all_labelled(dataset, labels=labels)
        context.run.log_dataset(dataset, context="training")
        learnt.append(dataset)
        sources.append(TaughtTexts(f"dataset {number}", DatasetTexts(dataset, context), signals))
    taught = teach_encoder(sources, options, context, learned_before=known)
    log_curve(taught.history, context)
    context.run.log_metrics({"signals": float(sum(len(source.signals) for source in sources))})
    return log_encoder(
        taught.folder,
        taught.metrics,
        parent=inputs.model,
        registered_name=config.registered_name,
        context=context,
        tags=taught_tags(learnt),
    )


def _labels(config: TeachTrunkConfig, datasets: tuple[DatasetRef, ...]) -> dict[DatasetRef, tuple[str, ...]]:
    """Return the label columns to learn of each dataset."""
    unknown = sorted(set(config.labels) - {label for dataset in datasets for label in dataset.labels})
    if unknown:
        raise ConfigError(
            "labels are label columns of the datasets",
            got=", ".join(unknown),
            remedy=f"the datasets have {', '.join(sorted({one for d in datasets for one in d.labels}))}",
        )
    return {
        dataset: tuple(label for label in dataset.labels if not config.labels or label in config.labels)
        for dataset in datasets
    }


teach_trunk = Component(
    name="teach_trunk",
    title="Teach trunk",
    group="Train",
    config=TeachTrunkConfig,
    inputs=TeachTrunkInputs,
    outputs=ModelOutputs,
    run=run,
    outside_state=base_state,
    check=check,
    reads=("text",),
    either=("base_model", "model"),
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
    version=2,
)
