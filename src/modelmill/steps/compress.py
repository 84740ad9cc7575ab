"""Searches for a smaller or faster model that keeps a budget, and logs every model that was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef
from modelmill.component import Component, Config, Inputs, Outputs, StepContext
from modelmill.compression.options import COMPRESSION_EXTENSIONS, CompressionOptions
from modelmill.system.resources import Resources

if TYPE_CHECKING:
    from modelmill.compression.search.results import CompressionReport

REPORT_FILE = "compression.json"
TAG_RECIPE = "modelmill.recipe"


class CompressConfig(CompressionOptions, Config):
    """Find the smallest or fastest model that keeps a budget: distil, prune and quantise in one step.

    The metric is judged with confidence, on validation rows that nothing was learned or chosen from.
    """


class CompressInputs(Inputs):
    """The dataset, and the teacher to compress."""

    dataset: DatasetRef
    teacher: ModelRef


class CompressOutputs(Outputs):
    """The chosen model, and a report on every model that was measured."""

    model: ModelRef
    report: ReportRef


def run(config: CompressConfig, inputs: CompressInputs, context: StepContext) -> CompressOutputs:
    """Compress the teacher; log the chosen model with the role ``compressed``, the others as ``candidate``.

    If no candidate keeps the budget, nothing is logged.
    """
    from modelmill.compression.search.compress import compress
    from modelmill.models.bundle import BundleInfo
    from modelmill.registry.bundles import fetch_bundle, log_model
    from modelmill.tasks.examples import read_labelled
    from modelmill.tokens.cache import DatasetTexts
    from modelmill.training.teacher import Teacher

    dataset = inputs.dataset
    folder = fetch_bundle(inputs.teacher, context.cache)
    data = read_labelled(dataset, label=BundleInfo.load(folder).label)
    teacher = Teacher.load(folder, name=inputs.teacher.uri)
    context.run.log_dataset(dataset, context="training", rows=data.rows)
    result = compress(data, DatasetTexts(dataset, context), teacher, config, context)
    models = [
        log_model(
            item.candidate.folder,
            role="compressed" if point.chosen else "candidate",
            dataset=dataset,
            context=context,
            parent=inputs.teacher,
            metrics=point.metrics,
            more_tags={TAG_RECIPE: point.name},
        )
        for item, point in zip(result.measured, result.report.points, strict=True)
    ]
    points = tuple(
        point.model_copy(update={"uri": model.uri})
        for point, model in zip(result.report.points, models, strict=True)
    )
    report = result.report.model_copy(update={"dataset": str(dataset), "points": points})
    chosen = next(model for model, point in zip(models, points, strict=True) if point.chosen)
    return CompressOutputs(model=chosen, report=_log_report(report, context))


def _log_report(report: CompressionReport, context: StepContext) -> ReportRef:
    from modelmill.compression.search.plots import pareto_figure
    from modelmill.compression.search.report import report_html, table_lines

    best = next(point for point in report.points if point.chosen)
    figures = {
        "cpu_seconds": report.cpu_seconds,
        "candidates": float(report.candidates),
        "measured": float(len(report.points)),
    }
    context.run.log_metrics(figures | {f"chosen_{name}": value for name, value in best.metrics.items()})
    context.run.log_metrics(best.metrics, step=1)  # behind those of all models: the run's are of what it made
    context.run.log_figure(pareto_figure(report), "plots/pareto.png")
    context.run.client.log_text(context.run.run_id, report_html(report), "compression.html")
    uri = context.run.log_json(report.model_dump(mode="json"), REPORT_FILE)
    for line in table_lines(report):
        context.log(line)
    return ReportRef(uri=uri, run_id=context.run.run_id)


compress = Component(
    name="compress",
    title="Compress",
    group="Compress",
    config=CompressConfig,
    inputs=CompressInputs,
    outputs=CompressOutputs,
    run=run,
    extensions=COMPRESSION_EXTENSIONS,
    reads=("text",),
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
