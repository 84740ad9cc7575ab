"""Trains one student to answer as several teachers do: a trunk with a head for each teacher's label."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.compression.options import QUANTIZATION_EXTENSIONS, TrunkMethod
from modelmill.steps.learning import log_curve
from modelmill.system.resources import Resources
from modelmill.training.options import CalibrationOptions, MultiTeacherOptions, TemperatureScaling


class DistillSignalsConfig(MultiTeacherOptions, Config):
    """Distil one small student out of several teachers: a trunk with a head for each teacher's label."""

    method: TrunkMethod = Field(
        "int8_dynamic", description="How the trunk is quantised, as in quantize; none: fp32."
    )
    calibration: CalibrationOptions | None = Field(
        TemperatureScaling(),
        description="What makes probabilities of scores, fitted on the validation split; empty: nothing.",
    )
    prefix: str = Field(
        "", max_length=40, description="Each head is registered under this and its label's name."
    )


class DistillSignalsInputs(Inputs):
    """The dataset whose train rows the teachers answer, and the teachers, each of a label of its own."""

    dataset: DatasetRef
    teachers: tuple[ModelRef, ...]


class DistillSignalsOutputs(Outputs):
    """The student's trunk, and the heads that stand on it."""

    trunk: ModelRef
    signals: SignalsRef


def run(
    config: DistillSignalsConfig, inputs: DistillSignalsInputs, context: StepContext
) -> DistillSignalsOutputs:
    """Distil, export the student's encoder as a trunk, log and register each head.

    Nothing is logged before the student is trained and exported.
    """
    from modelmill.compression.trunk import make_trunk
    from modelmill.models.bundle import bundle_bytes
    from modelmill.models.trunk import Trunk
    from modelmill.registry.bundles import fetch_bundle, log_model
    from modelmill.registry.signal_models import log_signals
    from modelmill.registry.versions import register
    from modelmill.system.cpu import usable_cores
    from modelmill.tasks.examples import read_labelled, split_places
    from modelmill.tokens.cache import DatasetTexts
    from modelmill.training.multi_teacher import distill_many, student_heads
    from modelmill.training.teacher import Teacher

    dataset, texts = inputs.dataset, DatasetTexts(inputs.dataset, context)
    teachers = [Teacher.load(fetch_bundle(one, context.cache), name=one.uri) for one in inputs.teachers]
    references = {teacher.info.label: one for teacher, one in zip(teachers, inputs.teachers, strict=True)}
    labelled = {label: read_labelled(dataset, label=label) for label in references if label in dataset.labels}
    places = split_places(dataset, "train")
    context.run.log_dataset(dataset, context="training", rows=len(places))
    student = distill_many(teachers, labelled, texts, config, context, places=places)
    bundle = context.workdir / "trunk"
    make_trunk(
        student.model.encoder,
        bundle,
        tokenizer=student.start.folder / "tokenizer.json",
        text=dataset.text_column,
        max_tokens=student.max_tokens,
        method=config.method,
    )
    log_curve(student.history, context)
    trunk = log_model(
        bundle,
        role="trunk",
        dataset=dataset,
        context=context,
        parent=references[student.start.info.label],
        metrics={"bytes": float(bundle_bytes(bundle))},
    )
    heads = student_heads(
        student,
        Trunk(bundle, threads=usable_cores()),
        texts,
        config.calibration,
        context,
        places=split_places(dataset, "validation"),
    )
    models = {
        label: log_model(
            head.folder,
            role="head",
            context=context,
            dataset=dataset,
            parent=references[label],
            trunk=trunk,
            metrics={f"{name}/{label}": value for name, value in head.metrics.items()},
        )
        for label, head in heads.items()
    }
    for label, model in models.items():
        register(context.run.client, f"{config.prefix}{label}", model)
    context.run.log_metrics({"signals": float(len(models))})
    return DistillSignalsOutputs(trunk=trunk, signals=log_signals(models, context))


distill_signals = Component(
    name="distill_signals",
    title="Distil many",
    group="Train",
    config=DistillSignalsConfig,
    inputs=DistillSignalsInputs,
    outputs=DistillSignalsOutputs,
    run=run,
    extensions=QUANTIZATION_EXTENSIONS,
    reads=("text",),
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
