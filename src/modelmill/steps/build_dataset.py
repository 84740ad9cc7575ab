"""The step ``build_dataset``."""

from __future__ import annotations

from collections.abc import Mapping

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.component import Assets, Component, Config, Inputs, Outputs, StepContext
from modelmill.datasets.options import BuildDatasetConfig
from modelmill.steps.ports import tables_exist
from modelmill.system.resources import Resources


class BuildDatasetInputs(Inputs):
    """The table to make it of."""

    table: TableRef


class DatasetOutputs(Outputs):
    """The dataset, and the rows that did not make it, each with its reason."""

    dataset: DatasetRef
    quarantine: TableRef


def _run_build_dataset(
    config: BuildDatasetConfig, inputs: BuildDatasetInputs, context: StepContext
) -> DatasetOutputs:
    from modelmill.datasets.building import run

    dataset, quarantine = run(config, inputs.table, context)
    return DatasetOutputs(dataset=dataset, quarantine=quarantine)


def _build_dataset_assets(config: BuildDatasetConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,)) if config.to else Assets()


build_dataset = Component(
    name="build_dataset",
    title="Build dataset",
    group="Data",
    config=BuildDatasetConfig,
    inputs=BuildDatasetInputs,
    outputs=DatasetOutputs,
    run=_run_build_dataset,
    still_valid=tables_exist,
    resources=Resources(cpus=2, memory_gb=4),
    assets=_build_dataset_assets,
)
