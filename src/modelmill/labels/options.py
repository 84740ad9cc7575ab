"""What can be chosen when rows are labelled by rules, and when label errors are ranked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modelmill.options import Options


class LabellingFunction(Options):
    """A rule that votes for a label where its condition is true, and abstains everywhere else."""

    when: str = Field(description="SQL condition over the table's columns, such as contains(text, 'goal').")
    label: str = Field(min_length=1, description="Label that it votes for.")


class LabellingOptions(Options):
    """Which functions vote, and what makes labels of their votes."""

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

    @model_validator(mode="after")
    def _labels_differ(self) -> LabellingOptions:
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


class LabelErrorOptions(Options):
    """Which labels are checked, and how."""

    label: str | None = Field(None, description="Label column to check; empty: the dataset's only one.")
    split: Literal["train", "validation", "test"] = Field("train", description="Split to check.")
    folds: int = Field(
        5, ge=2, le=20, description="Each row is judged by a model that was fitted on the other folds."
    )
    rows: int = Field(1000, ge=1, description="Rows at most in the table.")
