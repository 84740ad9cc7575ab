"""What several ways of trying rule sets have in common."""

from __future__ import annotations

from pydantic import Field

from modelmill.component import Config


class TrialConfig(Config):
    """What is tried, and what is looked at."""

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
