"""The base of configurations of components and of options of algorithms."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base of options: unknown keys are refused, instances are frozen.

    Describe each field with ``Field(description=…)``: the canvas shows it. Where a choice has options of its
    own, each alternative is a class, and its type selects the algorithm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
