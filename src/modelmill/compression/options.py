"""Choices that pruning has, each a small configuration whose type selects the algorithm."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from modelmill.component import Config
from modelmill.compression.extensions import known_in, with_others

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

METHOD_GROUP = "modelmill.quantization"
"""Entry points by which other distributions add methods of quantisation."""

METHOD_NAMES = with_others(
    ("int8_dynamic", "int8_static", "int8_weights", "int4_weights", "none"), METHOD_GROUP
)

TORCH_METHOD_NAMES = ("int8_torch", "int4_torch", "fp8_torch")
"""Methods whose files PyTorch runs."""

MethodName = Annotated[
    str, AfterValidator(known_in(METHOD_NAMES)), Field(json_schema_extra={"enum": [*METHOD_NAMES]})
]

_ALL = (*METHOD_NAMES, *TORCH_METHOD_NAMES)

AnyMethodName = Annotated[str, AfterValidator(known_in(_ALL)), Field(json_schema_extra={"enum": [*_ALL]})]


class PruneMove(Config):
    """Take units of one kind out of a model."""

    method: PruningName = Field(
        "inner_units",
        description="heads: attention heads, of all layers those that matter least; inner_units: inner units "
        "of each layer's feed-forward part.",
    )
    keep: float = Field(0.5, gt=0, le=1, description="Share of the units that stays.")


class Budget(Config):
    """What the compressed model may cost, and how much worse than its teacher it may be."""

    max_metric_drop: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Largest drop of accuracy below the teacher's that new rows may show: 0.01 is a point.",
    )
    max_latency_ms: float | None = Field(
        None, gt=0, description="95th percentile of the time for one text, in milliseconds; empty: any."
    )
    min_throughput_ratio: float | None = Field(
        None, gt=0, description="Documents per second, as a multiple of the teacher's; empty: any."
    )
    max_size_mb: float | None = Field(
        None, gt=0, description="Size of weights and graph, in millions of bytes; empty: any."
    )


class SpaceConfig(Config):
    """The choices that are combined. Each combination is a candidate."""

    families: tuple[Literal["static", "transformer"], ...] = Field(
        ("static", "transformer"),
        min_length=1,
        description="static: a weight for each token and class; transformer: fewer and narrower layers.",
    )
    layers: tuple[int, ...] | None = Field(
        None, description="Transformer layers of the students; empty: 1, 2, and half of the teacher's."
    )
    tokens: tuple[int, ...] | None = Field(
        None, description="Tokens that their encoders read; empty: as many as the teacher's, and half."
    )
    widths: tuple[float, ...] = Field(
        (1.0, 0.25), min_length=1, description="Shares of each layer's inner units that stay."
    )
    heads: tuple[float, ...] = Field(
        (1.0, 0.5),
        min_length=1,
        description="Shares of the attention heads that stay; all but the largest are tried on the narrowest "
        "students only.",
    )
    vocabularies: tuple[Literal["seen", "all"], ...] = Field(
        ("seen", "all"),
        min_length=1,
        description="seen: the tokens of the train split; all: the teacher's vocabulary.",
    )
    quantization: tuple[MethodName, ...] = Field(
        ("int8_dynamic", "none"), min_length=1, description="Methods of the component quantize."
    )
    pairs: tuple[int, ...] = Field(
        (0,),
        min_length=1,
        description="Static models: buckets for pairs of neighbouring tokens, a power of two; 0: none.",
    )

    @model_validator(mode="after")
    def _check(self) -> SpaceConfig:
        wrong = [count for count in self.pairs if count < 0 or count == 1 or count & (count - 1)]
        if wrong:
            raise ValueError(f"pairs must be 0 or powers of two from 2 on; got {wrong[0]}")
        for name in ("widths", "heads"):
            if any(not 0 < share <= 1 for share in getattr(self, name)):
                raise ValueError(f"{name} must be above 0 and at most 1")
        if any(count < 1 for count in self.layers or ()) or any(count < 4 for count in self.tokens or ()):
            raise ValueError("layers must be at least 1, and tokens at least 4")
        return self
