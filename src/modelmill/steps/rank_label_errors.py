"""The step ``rank_label_errors``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from modelmill.artifacts import DatasetRef
from modelmill.component import Assets, Component, Config, Inputs, StepContext
from modelmill.steps.ports import TableOutputs, tables_exist
from modelmill.system.resources import Resources


class RankLabelErrorsConfig(Config):
    """List the rows whose label is probably wrong, the most suspicious first (confident learning)."""

    label: str | None = Field(None, description="Label column to check; empty: the dataset's only one.")
    split: Literal["train", "validation", "test"] = Field("train", description="Split to check.")
    folds: int = Field(
        5, ge=2, le=20, description="Each row is judged by a model that was fitted on the other folds."
    )
    rows: int = Field(1000, ge=1, description="Rows at most in the table.")
    to: str | None = Field(None, description="Table to write; empty: in modelmill's home.")


class RankLabelErrorsInputs(Inputs):
    """The dataset whose labels are checked."""

    dataset: DatasetRef


def _run_rank_label_errors(
    config: RankLabelErrorsConfig, inputs: RankLabelErrorsInputs, context: StepContext
) -> TableOutputs:
    from modelmill.labels.label_errors import run

    return TableOutputs(table=run(config, inputs.dataset, context))


def _rank_label_errors_assets(config: RankLabelErrorsConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,)) if config.to else Assets()


rank_label_errors = Component(
    name="rank_label_errors",
    title="Rank label errors",
    group="Check",
    config=RankLabelErrorsConfig,
    inputs=RankLabelErrorsInputs,
    outputs=TableOutputs,
    run=_run_rank_label_errors,
    still_valid=tables_exist,
    resources=Resources(cpus=2, memory_gb=4),
    assets=_rank_label_errors_assets,
)
