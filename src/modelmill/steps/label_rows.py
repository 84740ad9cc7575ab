"""The step ``label_rows``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from modelmill.artifacts import TableRef
from modelmill.component import Assets, Component, Config, Inputs, Outputs, StepContext
from modelmill.steps.ports import tables_exist
from modelmill.system.resources import Resources


class LabellingFunction(Config):
    """A rule that votes for a label where its condition is true, and abstains everywhere else."""

    when: str = Field(description="SQL condition over the table's columns, such as contains(text, 'goal').")
    label: str = Field(min_length=1, description="Label that it votes for.")


class LabelRowsConfig(Config):
    """Label rows by rules with Spark: functions vote, a model weighs the votes, gold labels check and win."""

    functions: dict[str, LabellingFunction] = Field(
        min_length=1,
        max_length=1000,
        description="Labelling functions by name, for two labels or more.",
    )
    label: str = Field(
        "label", min_length=1, description="Label column to write; others begin with its name and _."
    )
    gold: str | None = Field(
        None, description="Column with labels by hand, null where there is none; may be the label column."
    )
    model: Literal["best", "majority_vote", "weighted"] = Field(
        "best",
        description="What weighs the votes; best: weighted where gold rows prove it better.",
    )
    class_balance: dict[str, float] | None = Field(
        None, description="Share of each label, for the weighted model; empty: its share of the votes."
    )
    threshold: float = Field(
        0.5, ge=0, lt=1, description="A label that is not more probable than this is not given."
    )
    review_rows: int = Field(
        10_000, ge=0, description="Rows at most in the table for review, the most useful ones first."
    )
    to: str | None = Field(None, description="Table to write; empty: in modelmill's home.")

    @model_validator(mode="after")
    def _labels_differ(self) -> LabelRowsConfig:
        labels = {function.label for function in self.functions.values()}
        if len(labels) < 2:
            raise ValueError(
                f"functions vote for two labels or more, or there is nothing to decide: {labels.pop()!r}"
            )
        balance = self.class_balance
        if balance is not None and (set(balance) != labels or min(balance.values()) <= 0):
            raise ValueError(f"class_balance gives each label a share above 0: {', '.join(sorted(labels))}")
        if balance is not None and abs(sum(balance.values()) - 1) > 0.01:
            raise ValueError(f"the shares of class_balance add up to 1, not {sum(balance.values()):g}")
        return self


class LabelRowsInputs(Inputs):
    """The table to label."""

    table: TableRef


class LabelRowsOutputs(Outputs):
    """Every row of the table with its label, if it has one; and the rows that a person should see."""

    table: TableRef
    disagreements: TableRef


def _run_label_rows(
    config: LabelRowsConfig, inputs: LabelRowsInputs, context: StepContext
) -> LabelRowsOutputs:
    from modelmill.labels.labelling import run

    table, disagreements = run(config, inputs.table, context)
    return LabelRowsOutputs(table=table, disagreements=disagreements)


def _label_rows_assets(config: LabelRowsConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(outlets=(config.to,)) if config.to else Assets()


label_rows = Component(
    name="label_rows",
    title="Label rows by rules",
    group="Data",
    config=LabelRowsConfig,
    inputs=LabelRowsInputs,
    outputs=LabelRowsOutputs,
    run=_run_label_rows,
    still_valid=tables_exist,
    resources=Resources(cpus=2, memory_gb=4),
    assets=_label_rows_assets,
)
