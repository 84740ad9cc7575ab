"""Components that put a model to use: scoring a table, and serving over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from modelmill.artifacts import ModelRef, TableRef
from modelmill.data.components import TableOutputs, tables_exist
from modelmill.pipeline.component import Assets, Component, Config, Inputs, Resources, StepContext
from modelmill.settings import Settings
from modelmill.training.components import ModelOutputs


class ScoreTableConfig(Config):
    """Score every row of a table with a model, with Spark; a row without a text gets null, not a guess."""

    to: str = Field(description="Path or URI of the Delta table to write; each run makes a new version.")
    text: str | None = Field(None, description="Column with the text; empty: as the model was trained.")
    keep: tuple[str, ...] = Field((), description="Columns to carry along; empty: all.")


class ScoreTableInputs(Inputs):
    """The table, and the model."""

    table: TableRef
    model: ModelRef


def _run_score_table(
    config: ScoreTableConfig, inputs: ScoreTableInputs, context: StepContext
) -> TableOutputs:
    from modelmill.serving.batch import run

    return TableOutputs(table=run(config, inputs.table, inputs.model, context))


def _score_table_assets(config: ScoreTableConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,))


score_table = Component(
    name="score_table",
    title="Score table",
    group="Release",
    config=ScoreTableConfig,
    inputs=ScoreTableInputs,
    outputs=TableOutputs,
    run=_run_score_table,
    still_true=tables_exist,
    resources=Resources(cpus=2, memory_gb=4),
    assets=_score_table_assets,
)


class DeployConfig(Config):
    """Have a running service (modelmill serve) answer with the champion, and wait until it does."""

    service: str = Field(
        "main", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", description="Name of the service."
    )
    urls: tuple[Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(/[^\s?#]*)?$")], ...] = Field(
        min_length=1, description="Address of each instance of the service, such as http://127.0.0.1:8080."
    )
    shadow: bool = Field(
        False, description="Score the version with the alias challenger beside the champion, too."
    )
    shadow_share: float = Field(1.0, gt=0, le=1, description="Share of the rows that the challenger scores.")
    timeout_seconds: float = Field(300.0, gt=0, description="How long all instances together may take.")


class DeployInputs(Inputs):
    """The champion, and a model that is scored beside it: it gets the alias challenger."""

    model: ModelRef
    challenger: ModelRef | None = None


def _run_deploy(config: DeployConfig, inputs: DeployInputs, context: StepContext) -> ModelOutputs:
    from modelmill.serving.service.deploying import run

    return ModelOutputs(model=run(config, inputs, context))


def _never(_outputs: ModelOutputs, _settings: Settings) -> bool:
    """Return False: what a service serves can change without any step, so it is asked each time."""
    return False


deploy = Component(
    name="deploy",
    title="Deploy",
    group="Release",
    config=DeployConfig,
    inputs=DeployInputs,
    outputs=ModelOutputs,
    run=_run_deploy,
    still_true=_never,
)
