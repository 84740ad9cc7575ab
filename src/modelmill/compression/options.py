"""Options of compression, and the methods that they can name.

Where a choice has options of its own, each alternative is a class, and its type selects the algorithm.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from modelmill.artifacts import ContentKind
from modelmill.errors import ConfigError
from modelmill.extensions import Extensions, NameOf
from modelmill.options import Options
from modelmill.training.options import DistillationOptions

GRAPH_METHODS = Extensions(
    "modelmill.quantization",
    noun="method of quantisation",
    own={
        "int8_dynamic": "modelmill.compression.quantization.int8:int8_dynamic",
        "int8_static": "modelmill.compression.quantization.int8:int8_static",
        "int8_weights": "modelmill.compression.quantization.weights:int8_weights",
        "int4_weights": "modelmill.compression.quantization.weights:int4_weights",
        "none": "modelmill.compression.quantization.weights:fp32",
    },
)
"""Methods of quantisation whose files ONNX Runtime runs: see :mod:`modelmill.compression.quantization`."""

TORCH_METHODS = Extensions(
    "modelmill.torch_quantization",
    noun="method of quantisation",
    own={
        "int8_torch": "modelmill.compression.quantization.torchao:int8_torch",
        "int4_torch": "modelmill.compression.quantization.torchao:int4_torch",
        "fp8_torch": "modelmill.compression.quantization.torchao:fp8_torch",
    },
)
"""Methods of quantisation whose files PyTorch runs: see :mod:`modelmill.compression.quantization.torchao`."""

PRUNING_METHODS = Extensions(
    "modelmill.pruning",
    noun="method of pruning",
    own={
        "heads": "modelmill.compression.pruning.heads:attention_heads",
        "inner_units": "modelmill.compression.pruning.inner_units:inner_units",
    },
)
"""What can be taken out of a model: see :mod:`modelmill.compression.pruning`."""

QUANTIZATION_EXTENSIONS = (GRAPH_METHODS.group, TORCH_METHODS.group)
COMPRESSION_EXTENSIONS = (*QUANTIZATION_EXTENSIONS, PRUNING_METHODS.group)
"""Entry points by which other distributions add methods."""

IMAGE_METHODS = ("int8_static", "none")
"""Methods for models of images: see :mod:`modelmill.compression.quantization.convolutions`."""


def unfit_method(method: str, content: ContentKind) -> ConfigError | None:
    """Return why a method of quantisation is not for models of one kind of content; None if it is.

    :param method: a name in :data:`GRAPH_METHODS` or :data:`TORCH_METHODS`.
    :param content: what the models read.
    :return: an error with the methods that are.
    """
    if content == "text" or method in IMAGE_METHODS:
        return None
    return ConfigError(
        "a model of images is made of convolutions, and this method of quantisation is for products of "
        "matrices",
        got=method,
        remedy=f"set method: {' or '.join(IMAGE_METHODS)}",
    )


TrunkMethod = Annotated[str, NameOf(GRAPH_METHODS, without=("int8_static",))]
"""A method for trunks. They are calibrated with random tokens, which fixed scales must not come from."""


class QuantizationOptions(Options):
    """How a model is quantised."""

    method: Annotated[str, NameOf(GRAPH_METHODS, TORCH_METHODS)] = Field(
        "int8_dynamic",
        description="int8_dynamic: int8 weights, activations quantised as they come; int8_static: by scales "
        "that some rows give; int8_weights, int4_weights: activations stay fp32; none: fp32. For images: "
        "int8_static, none. For GPUs, in PyTorch: int8_torch, int4_torch: weights alone; fp8_torch: "
        "activations as well.",
    )
    max_drift: float = Field(
        0.05, gt=0, le=1, description="Largest accepted share of validation rows whose answer changes."
    )


class TaylorImportance(Options):
    """How much the loss would change without it: activation times gradient, on labelled rows."""

    kind: Literal["taylor"] = "taylor"


class ActivationImportance(Options):
    """How much it adds to what follows: size of its activation times that of the weights that read it."""

    kind: Literal["activation"] = "activation"


Importance = Annotated[TaylorImportance | ActivationImportance, Field(discriminator="kind")]


class PruneMove(Options):
    """Take units of one kind out of a model."""

    method: Annotated[str, NameOf(PRUNING_METHODS)] = Field(
        "inner_units",
        description="heads: attention heads, of all layers those that matter least; inner_units: inner units "
        "of each layer's feed-forward part.",
    )
    keep: float = Field(0.5, gt=0, le=1, description="Share of the units that stays.")


class PruningOptions(DistillationOptions):
    """What is taken out of a model, and how what stays learns again."""

    moves: tuple[PruneMove, ...] = Field(
        (PruneMove(method="inner_units", keep=0.5), PruneMove(method="heads", keep=0.75)),
        description="What is taken out, one after another.",
    )
    importance: Importance = Field(
        TaylorImportance(), description="How it is estimated, on train rows, which units matter."
    )
    vocabulary: Literal["seen", "all"] = Field(
        "seen",
        description="seen: keep the tokens of the train split, single characters and special tokens, where "
        "the tokenizer allows it; all: keep every token.",
    )
    epochs: float = Field(
        1, ge=0, le=1000, description="Passes over the train split in which it recovers; 0: none."
    )


class Budget(Options):
    """What the compressed model may cost, and how much worse than its teacher it may be."""

    max_metric_drop: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="Largest drop of the metric (accuracy, of sets micro-F1, of numbers R²) below the "
        "teacher's that new rows may show: 0.01 is a point.",
    )
    max_latency_ms: float | None = Field(
        None, gt=0, description="95th percentile of the time for one text, in milliseconds; empty: any."
    )
    min_throughput_ratio: float | None = Field(
        None,
        gt=0,
        description="Documents per second, as a multiple of the teacher's measured beside it; empty: any.",
    )
    max_size_mb: float | None = Field(
        None, gt=0, description="Size of weights and graph, in millions of bytes; empty: any."
    )


class SearchSpace(Options):
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
    quantization: tuple[Annotated[str, NameOf(GRAPH_METHODS)], ...] = Field(
        ("int8_dynamic", "none"), min_length=1, description="Methods of the component quantize."
    )
    pairs: tuple[int, ...] = Field(
        (0,),
        min_length=1,
        description="Static models: buckets for pairs of neighbouring tokens, a power of two; 0: none.",
    )

    @model_validator(mode="after")
    def _check(self) -> SearchSpace:
        wrong = [count for count in self.pairs if count < 0 or count == 1 or count & (count - 1)]
        if wrong:
            raise ValueError(f"pairs must be 0 or powers of two from 2 on; got {wrong[0]}")
        for name in ("widths", "heads"):
            if any(not 0 < share <= 1 for share in getattr(self, name)):
                raise ValueError(f"{name} must be above 0 and at most 1")
        if any(count < 1 for count in self.layers or ()) or any(count < 4 for count in self.tokens or ()):
            raise ValueError("layers must be at least 1, and tokens at least 4")
        return self


class CompressionOptions(Options):
    """What is searched for, and how."""

    budget: Budget = Field(default_factory=Budget, description="Limits that the model has to keep.")
    prefer: Literal["speed", "size", "quality"] = Field(
        "speed", description="Which of the models that keep the budget is taken."
    )
    space: SearchSpace = Field(default_factory=SearchSpace, description="What is tried.")
    epochs: float = Field(3, gt=0, le=1000, description="Passes over the train split: the best students.")
    batch_size: int = Field(16, ge=1, description="Rows per optimizer step.")
    learning_rate: float = Field(3e-4, gt=0, le=1, description="Peak learning rate of the encoders.")
    temperature: float = Field(2.0, gt=0, description="Softens the teacher's distribution.")
    soft_weight: float = Field(0.7, ge=0, le=1, description="Weight of soft labels; the rest is for labels.")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="Confidence that new rows keep max_metric_drop."
    )
    exhaustive: bool = Field(
        False,
        description="Train and measure every candidate to the end: for comparison; much more work.",
    )
    seed: int = Field(0, ge=0, description="Seed of every random choice.")
