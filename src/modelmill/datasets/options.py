"""What can be chosen when a dataset is built."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modelmill.datasets.personal_data import PersonalData
from modelmill.options import Options

LabelKind = Literal["class", "classes", "number"]
"""One class a row, a set of classes a row, or a number a row (regression)."""


class SplitOptions(Options):
    """How rows are split: by a column that says so, or by the hash of a group key."""

    column: str | None = Field(
        None, description="Column with train, validation or test; empty: split by hash."
    )
    group: str | None = Field(
        None, description="Column whose rows stay together; empty: the example's key, so identical texts do."
    )
    validation: float = Field(0.1, ge=0, lt=1, description="Share of train rows used for validation.")
    test: float = Field(0.2, ge=0, lt=1, description="Share of all rows used for test (without a column).")


class ColumnContract(Options):
    """What every value of a column must be. A row that breaks it is quarantined; a column of another type is
    an error.
    """

    type: Literal["string", "integer", "number", "boolean", "date", "timestamp", "binary"] | None = Field(
        None, description="Type of the column; empty: any."
    )
    required: bool = Field(False, description="Whether null is refused.")
    min: float | None = Field(None, allow_inf_nan=False, description="Smallest value, inclusive.")
    max: float | None = Field(None, allow_inf_nan=False, description="Largest value, inclusive.")
    allowed: tuple[str | int | float | bool, ...] | None = Field(
        None, description="The values that are allowed; empty: all."
    )
    pattern: str | None = Field(
        None, description="Regular expression (RE2) that a text must match somewhere."
    )
    max_length: int | None = Field(None, ge=1, description="Most characters (of binary values: bytes).")
    without: tuple[PersonalData, ...] = Field(
        (),
        description="Personal data that a text must not have, as far as it has a form of its own. Names and "
        "addresses are not found.",
    )

    @model_validator(mode="after")
    def _limits_in_order(self) -> ColumnContract:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min must not be above max: {self.min} > {self.max}")
        return self


class BuildOptions(Options):
    """What the columns of a table mean, and how a dataset is made of them."""

    text: str | None = Field(None, description="Column with the text.")
    image: str | None = Field(
        None,
        description="Column with the image, with or instead of text: the bytes of its file, which models "
        "read, or its path or URI, which they do not.",
    )
    labels: tuple[str, ...] = Field(min_length=1, description="Label columns, one per signal.")
    label_kinds: dict[str, LabelKind] = Field(
        default={},
        description="What a label column holds: class, classes (a list of them) or number (regression). "
        "Empty: by the column's type, where whole numbers are classes and others are numbers.",
    )
    key: str | None = Field(None, description="Column that identifies a row; empty: hash of the content.")
    contract: dict[str, ColumnContract] = Field(
        default={}, description="What the values of a column must be, by column."
    )
    near_duplicates: float | None = Field(
        0.55,
        ge=0.4,
        le=1,
        description="Jaccard similarity of their pairs of neighbouring words from which two texts count as "
        "one: 0.55 is about one word in six changed. Empty: only identical texts do. With an image, examples "
        "are one only if text and image are identical: many images have the same caption.",
    )
    number_tolerance: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Copies of one content with different numbers get their median. If these differ by more "
        "than this, in the label's unit, they conflict. Empty: they never do.",
    )
    split: SplitOptions = Field(default=SplitOptions(), description="How rows are split.")
    keep: tuple[str, ...] = Field((), description="Other columns to carry along, for slices and provenance.")
    incremental: bool = Field(
        True,
        description="Process only the rows that changed since the last build, where the source has a change "
        "data feed (delta.enableChangeDataFeed); the result is that of a full build.",
    )

    @model_validator(mode="after")
    def _roles_differ(self) -> BuildOptions:
        if self.text is None and self.image is None:
            raise ValueError("an example needs a text or an image: name the column")
        if self.text is not None and self.text == self.image:
            raise ValueError(f"a column is text or image, not both: {self.text!r}")
        for name in self.contents:
            if name in self.labels:
                raise ValueError(f"a column is content or label, not both: {name!r}")
        for name in self.label_kinds:
            if name not in self.labels:
                raise ValueError(f"label_kinds names label columns only; {name!r} is not one of them")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"a label column is named once: {', '.join(map(repr, self.labels))}")
        return self

    @property
    def contents(self) -> tuple[str, ...]:
        """The columns that an example is made of."""
        return tuple(name for name in (self.text, self.image) if name is not None)

    @property
    def similar_texts(self) -> float | None:
        """Similarity from which two examples count as one; None if only identical ones do."""
        return self.near_duplicates if self.contents == (self.text,) else None

    @property
    def carried(self) -> tuple[str, ...]:
        """The columns that are carried along and are not in the dataset by their role."""
        roles = {*self.contents, *self.labels}
        return tuple(name for name in dict.fromkeys(self.keep) if name not in roles)
