"""Choices that pruning has, each a small configuration whose type selects the algorithm."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from modelmill.errors import did_you_mean
from modelmill.pipeline.component import Config

PRUNING_GROUP = "modelmill.pruning"
"""Entry points by which other distributions add methods of pruning."""


def known_in(names: tuple[str, ...]) -> Callable[[str], str]:
    """Return a check of a method's name, for pydantic.

    :param names: what is known.
    :return: the check.
    """

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"a method must be known: {did_you_mean(name, names)}")
        return name

    return check


PRUNING_NAMES = (
    "heads",
    "inner_units",
    *sorted({entry.name for entry in entry_points(group=PRUNING_GROUP)}),
)
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
