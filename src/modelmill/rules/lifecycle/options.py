"""Options of backtests, and of the gate's check of decisions."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from modelmill.options import Options


class TrialOptions(Options):
    """The rule set that is tried, and what is looked at."""

    rule_set: str = Field(min_length=1, description="The proposed rule set: path, URL or models:/NAME@ALIAS.")
    slices: tuple[str, ...] = Field((), description="Columns whose values cut the rows.")
    label: str | None = Field(None, description="Column with labels by hand, null where there is none.")
    decision_of: dict[str, str] = Field(
        {}, description="Right decision of each label; a label that is not listed is a decision itself."
    )
    examples: int = Field(5, ge=0, le=100, description="Keys that are named for each kind of change.")
    rows: int = Field(50_000, ge=1, description="Rows that are tried at most, from all over the table.")
    precision: float = Field(
        0.95, gt=0, lt=1, description="Precision on new rows that thresholds are suggested for."
    )


class DecisionLimits(Options):
    """How much the decisions of rule sets may change with a challenger."""

    rule_sets: tuple[str, ...] = Field(
        (),
        description="Paths or URLs of rule sets, or models:/NAME@ALIAS; empty: the champion of every "
        "registered rule set that reads the model's champion.",
    )
    max_changed: float | None = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest accepted share of test rows with another decision (0.05: 5 %); empty: any.",
    )
    label: str | None = Field(
        None,
        description="Column of the dataset with labels that say the right decision, null where none does.",
    )
    decision_of: dict[str, str] = Field(
        {}, description="Right decision of each label; a label that is not listed is a decision itself."
    )
    max_drop: float = Field(
        0.005, ge=0, lt=1, description="Largest accepted drop of the share of right decisions, beyond chance."
    )
    examples: int = Field(3, ge=0, le=100, description="Keys that are named for each kind of change.")

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if self.max_changed is None and self.label is None:
            raise ValueError("at least one of max_changed and label is needed")
        return self
