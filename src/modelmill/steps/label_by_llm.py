"""Label the rows of a table with a language model, within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, JsonValue

from modelmill.artifacts import TableRef
from modelmill.component import Budget, Component, Config, Inputs, Outputs, StepContext, writes_to
from modelmill.language_models.dialects import DIALECTS
from modelmill.language_models.options import LlmLabellingOptions
from modelmill.language_models.prices import Tariff
from modelmill.settings import Settings
from modelmill.system.resources import Resources

if TYPE_CHECKING:
    from modelmill.language_models.places import Place


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
    from modelmill.language_models.labelling import label_by_llm
    from modelmill.language_models.labelling_task import LlmLabelling
    from modelmill.language_models.report import metrics, summary

    home = context.settings.home
    labelling = LlmLabelling(
        table=inputs.table,
        options=config,
        to=context.table("labels", config.to),
        answers=config.answers or str(home / "language_models" / "answers"),
        limits=home / "language_models" / "limits",
        transaction=context.transaction,
        fields=_fields(config, context.settings),
    )
    labelled = label_by_llm(labelling, workspace=context, place=_place(config))
    report = labelled.report
    context.run.log_dataset(inputs.table, context="source", rows=report.rows)
    context.run.log_json(report.model_dump(mode="json") | {"table": str(labelled.table)}, "labels.json")
    context.run.log_metrics(metrics(report))
    for line in summary(report):
        context.log(f"{context.step}: {line}")
    return LabelByLlmOutputs(table=labelled.table, disagreements=labelled.disagreements)


def check(config: LabelByLlmConfig) -> None:
    """Check the language model of dialect ``local``, if it is on this machine."""
    from modelmill.models.decoder_folder import check_decoder

    local = config.asking.local
    if local is not None and (folder := Path(local.folder).expanduser()).exists():
        check_decoder(folder)


def _budget(config: LabelByLlmConfig) -> Budget | None:
    if config.asking.local is not None:
        return None
    tariff = Tariff.of(config.budget, config.prices)
    return Budget(limit=tariff.shown(tariff.limit), unit=tariff.unit)


def _place(config: LabelByLlmConfig) -> Place:
    """Return where the language model answers."""
    from modelmill.language_models.endpoint import Endpoint
    from modelmill.language_models.local_model import LocalPlace
    from modelmill.language_models.places import Remote
    from modelmill.models.decoder_folder import check_decoder

    local = config.asking.local
    if local is None:
        return Remote(Endpoint.from_environment())
    folder = Path(local.folder).expanduser()
    check_decoder(folder)
    return LocalPlace(folder, questions=len(config.questionnaires(together=False)))


def _fields(config: LabelByLlmConfig, settings: Settings) -> dict[str, JsonValue]:
    """Return what answers of a local model follow from, beside the question and the row."""
    local = config.asking.local
    if local is None:
        return {}
    return {
        "weights": _weights(config, settings),
        "scoring": local.scoring,
        "calibrated": local.calibrated,
    }


def _weights(config: LabelByLlmConfig, settings: Settings) -> str:
    from modelmill.models.decoder_folder import decoder_state

    local = config.asking.local
    if local is None:
        return ""
    return decoder_state(Path(local.folder).expanduser(), memory=settings.digests)


def _outside_state(config: LabelByLlmConfig, _inputs: LabelByLlmInputs, settings: Settings) -> str:
    return _weights(config, settings)


label_by_llm = Component(
    name="label_by_llm",
    title="Label rows by a language model",
    group="Data",
    config=LabelByLlmConfig,
    inputs=LabelByLlmInputs,
    outputs=LabelByLlmOutputs,
    run=run,
    extensions=(DIALECTS.group,),
    resources=Resources(cpus=1, memory_gb=2),
    assets=writes_to,
    check=check,
    outside_state=_outside_state,
    connection="llm_connection",
    budget=_budget,
)
