"""Compare a scored table with the training data, and raise an alarm if it has drifted."""

from __future__ import annotations

from collections.abc import Mapping

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef, TableRef
from modelmill.component import Assets, Component, Config, Inputs, StepContext
from modelmill.monitoring.drift import drift_asset
from modelmill.monitoring.options import MonitorOptions
from modelmill.steps.ports import ReportOutputs
from modelmill.system.resources import Resources


class MonitorConfig(MonitorOptions, Config):
    """Compare a scored table with the training data: drift of each column and of the scores, and quality.

    An alarm updates the asset ``modelmill-drift://NAME``, which can start a pipeline that trains anew.
    """


class MonitorInputs(Inputs):
    """The scored table, the dataset that the model learned from, the model, and labels that came later."""

    scored: TableRef
    dataset: DatasetRef
    model: ModelRef
    labels: TableRef | None = None


def run(config: MonitorConfig, inputs: MonitorInputs, context: StepContext) -> ReportOutputs:
    """Compare the tables, and log the report as JSON."""
    from modelmill.monitoring.monitor import compare_with_training
    from modelmill.monitoring.tables import MonitoredTables

    tables = MonitoredTables(inputs.scored, inputs.dataset, inputs.model, inputs.labels)
    report = compare_with_training(tables, config, context)
    context.run.log_dataset(inputs.scored, context="monitoring", rows=report.rows)
    context.run.log_dataset(inputs.dataset, context="reference")
    uri = context.run.log_json(report.model_dump(mode="json"), "monitor.json")
    for line in report.lines():
        context.log(f"{context.step}: {line}")
    return ReportOutputs(report=ReportRef(uri=uri, run_id=context.run.run_id, alarms=report.alarms))


def _events(config: MonitorConfig, outputs: ReportOutputs) -> tuple[str, ...]:
    return (drift_asset(config.name),) if outputs.report.alarms else ()


def _assets(config: MonitorConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(conditional=(drift_asset(config.name),))


monitor = Component(
    name="monitor",
    title="Monitor",
    group="Check",
    config=MonitorConfig,
    inputs=MonitorInputs,
    outputs=ReportOutputs,
    run=run,
    version=2,
    reads=("text",),
    events=_events,
    assets=_assets,
    resources=Resources(cpus=1, memory_gb=4),
)
