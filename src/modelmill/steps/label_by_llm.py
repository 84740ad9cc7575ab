"""Label the rows of a table with a language model, within a budget."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.artifacts import TableRef
from modelmill.component import Assets, Component, Config, Inputs, Outputs, StepContext
from modelmill.language_models.options import LlmLabellingOptions
from modelmill.system.resources import Resources


class LabelByLlmConfig(LlmLabellingOptions, Config):
    """Label rows with a language model, within a budget that holds; gold labels check and win."""

    llm_connection: str | None = Field(
        None,
        description="Airflow connection of type http: its host is the endpoint's URL up to /v1, its password "
        "the key. Empty, and without Airflow: MODELMILL_LLM_URL and MODELMILL_LLM_KEY of the environment.",
    )
    answers: str | None = Field(
        None, description="Table with all answers, the cache of every night; empty: in modelmill's home."
    )
    to: str | None = Field(None, description="Table to write; empty: in modelmill's home.")


class LabelByLlmInputs(Inputs):
    """The table to label."""

    table: TableRef


class LabelByLlmOutputs(Outputs):
    """Every row of the table with its label, if it has one; and the rows that a person should see."""

    table: TableRef
    disagreements: TableRef


def run(config: LabelByLlmConfig, inputs: LabelByLlmInputs, context: StepContext) -> LabelByLlmOutputs:
    """Label the rows, and log what it cost and how good the labels are."""
    from modelmill.language_models.endpoint import Endpoint
    from modelmill.language_models.labelling import LlmLabelling, label_by_llm
    from modelmill.language_models.report import metrics, summary

    home = context.settings.home
    labelling = LlmLabelling(
        table=inputs.table,
        options=config,
        to=config.to or str(home / "labels" / context.pipeline / context.step),
        answers=config.answers or str(home / "language_models" / "answers"),
        limits=home / "language_models" / "limits",
        transaction=context.transaction,
    )
    labelled = label_by_llm(labelling, workspace=context, endpoint=Endpoint.from_environment())
    report = labelled.report
    context.run.log_dataset(inputs.table, context="source", rows=report.rows)
    context.run.log_json(report.model_dump(mode="json") | {"table": str(labelled.table)}, "labels.json")
    context.run.log_metrics(metrics(report))
    for line in summary(report):
        context.log(f"{context.step}: {line}")
    return LabelByLlmOutputs(table=labelled.table, disagreements=labelled.disagreements)


def _assets(config: LabelByLlmConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,)) if config.to else Assets()


label_by_llm = Component(
    name="label_by_llm",
    title="Label rows by a language model",
    group="Data",
    config=LabelByLlmConfig,
    inputs=LabelByLlmInputs,
    outputs=LabelByLlmOutputs,
    run=run,
    resources=Resources(cpus=1, memory_gb=2),
    assets=_assets,
    connection="llm_connection",
)
