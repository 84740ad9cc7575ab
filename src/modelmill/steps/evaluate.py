"""Measure models side by side on a dataset's test split."""

from __future__ import annotations

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.evaluation.options import EvaluationOptions
from modelmill.steps.ports import ReportOutputs
from modelmill.system.resources import Resources


class EvaluateConfig(EvaluationOptions, Config):
    """Measure models side by side on the test split: quality with confidence intervals, size, throughput."""


class EvaluateInputs(Inputs):
    """The dataset, and the models: ratios are taken to the first one."""

    dataset: DatasetRef
    models: tuple[ModelRef, ...]


def run(config: EvaluateConfig, inputs: EvaluateInputs, context: StepContext) -> ReportOutputs:
    """Measure the models, and log the report as JSON."""
    from modelmill.evaluation.report import FetchedModel, evaluate_models
    from modelmill.registry.bundles import fetch_bundle

    models = [FetchedModel(model, fetch_bundle(model, context.cache)) for model in inputs.models]
    report = evaluate_models(models, inputs.dataset, config, context)
    context.run.log_dataset(inputs.dataset, context="evaluation", rows=report.rows)
    uri = context.run.log_json(report.as_json(), "report.json")
    return ReportOutputs(report=ReportRef(uri=uri, run_id=context.run.run_id))


evaluate = Component(
    name="evaluate",
    title="Evaluate",
    group="Check",
    config=EvaluateConfig,
    inputs=EvaluateInputs,
    outputs=ReportOutputs,
    run=run,
    version=2,
    resources=Resources(cpus=2, memory_gb=4),
)
