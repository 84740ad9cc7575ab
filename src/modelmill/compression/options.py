"""Choices that pruning has, each a small configuration whose type selects the algorithm."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modelmill.compression.extensions import known_in, with_others
from modelmill.pipeline.component import Config

PRUNING_GROUP = "modelmill.pruning"
"""Entry points by which other distributions add methods of pruning."""


PRUNING_NAMES = with_others(("heads", "inner_units"), PRUNING_GROUP)
PruningName = Annotated[
    str, AfterValidator(known_in(PRUNING_NAMES)), Field(json_schema_extra={"enum": [*PRUNING_NAMES]})
]


class TaylorImportance(Config):
    """How much the loss would change without it: activation times gradient, on labelled rows."""

    kind: Literal["taylor"] = "taylor"


class ActivationImportance(Config):
    """How much it adds to what follows: size of its activation times that of the weights that read it."""

    kind: Literal["activation"] = "activation"


ImportanceConfig = Annotated[TaylorImportance | ActivationImportance, Field(discriminator="kind")]
