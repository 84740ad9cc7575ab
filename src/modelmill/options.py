"""The bases of records, and of the options of components and algorithms."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of what is read and written as JSON: unknown keys are refused, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Options(Record):
    """Base of options.

    Describe each field with ``Field(description=…)``: the canvas shows it. Where a choice has options of its
    own, each alternative is a class, and its type selects the algorithm. No number is infinite or NaN.
    """

    model_config = ConfigDict(allow_inf_nan=False)
