"""Takes units and unused tokens out of a model, and trains what stays under a teacher."""

from __future__ import annotations

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.compression.options import PRUNING_METHODS, PruningOptions
from modelmill.steps.learning import log_trained
from modelmill.steps.ports import ModelOutputs
from modelmill.system.resources import Resources
from modelmill.training.options import LabelOptions


class PruneConfig(PruningOptions, LabelOptions, Config):
    """Take the units that matter least out of a model, and let what stays learn from a teacher again."""


class PruneInputs(Inputs):
    """The dataset, the model to prune, and what it learns from; without a teacher it is the model itself."""

    dataset: DatasetRef
    model: ModelRef
    teacher: ModelRef | None = None


def run(config: PruneConfig, inputs: PruneInputs, context: StepContext) -> ModelOutputs:
    """Prune the model, and log it with the role ``pruned``."""
    from modelmill.compression.pruning.prune import prune
    from modelmill.models.bundle import bundle_bytes
    from modelmill.registry.bundles import fetch_bundle
    from modelmill.tasks.examples import read_labelled
    from modelmill.tokens.cache import DatasetTexts
    from modelmill.training.teacher import Teacher

    dataset = inputs.dataset
    data = read_labelled(dataset, label=config.label)
    context.run.log_dataset(dataset, context="training", rows=data.rows)
    source, master = fetch_bundle(inputs.model, context.cache), inputs.teacher or inputs.model
    teacher = Teacher.load(fetch_bundle(master, context.cache), name=master.uri)
    texts = DatasetTexts(dataset, context)
    pruned = prune(source, data, texts, teacher=teacher, options=config, workspace=context)
    size, ratio = bundle_bytes(pruned.folder) / 1e6, pruned.metrics["size_ratio"]
    context.log(f"{size:.1f} MB, {ratio:.2f} times smaller")
    return log_trained(pruned, role="pruned", dataset=dataset, parent=inputs.model, context=context)


prune = Component(
    name="prune",
    title="Prune",
    group="Compress",
    config=PruneConfig,
    inputs=PruneInputs,
    outputs=ModelOutputs,
    run=run,
    extensions=(PRUNING_METHODS.group,),
    reads=("text",),
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
