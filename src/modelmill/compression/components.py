"""Components that make a model smaller and faster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from modelmill.artifacts import DatasetRef, ModelRef, ReportRef
from modelmill.compression.extensions import known_in, with_others
from modelmill.compression.options import ImportanceConfig, PruningName, TaylorImportance
from modelmill.pipeline.component import Component, Config, Inputs, Outputs, Resources, StepContext
from modelmill.training.components import LabelConfig, ModelOutputs, TeachingConfig

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


class PruneConfig(TeachingConfig, LabelConfig):
    """Take the units that matter least out of a model, and let what stays learn from a teacher again."""

    moves: tuple[PruneMove, ...] = Field(
        (PruneMove(method="inner_units", keep=0.5), PruneMove(method="heads", keep=0.75)),
        description="What is taken out, one after another.",
    )
    importance: ImportanceConfig = Field(
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


class PruneInputs(Inputs):
    """The dataset, the model to prune, and what it learns from; without a teacher it is the model itself."""

    dataset: DatasetRef
    model: ModelRef
    teacher: ModelRef | None = None


def _run_prune(config: PruneConfig, inputs: PruneInputs, context: StepContext) -> ModelOutputs:
    from modelmill.compression.prune import run

    return ModelOutputs(model=run(config, inputs.dataset, inputs.model, inputs.teacher, context))


prune = Component(
    name="prune",
    title="Prune",
    group="Compress",
    config=PruneConfig,
    inputs=PruneInputs,
    outputs=ModelOutputs,
    run=_run_prune,
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)


class QuantizeConfig(Config):
    """Quantise a model: the file that serves, in ONNX Runtime, or on a GPU in PyTorch."""

    method: AnyMethodName = Field(
        "int8_dynamic",
        description="int8_dynamic: int8 weights, activations quantised as they come; int8_static: by scales "
        "that some rows give; int8_weights, int4_weights: activations stay fp32; none: fp32. For GPUs, in "
        "PyTorch: int8_torch, int4_torch: weights alone; fp8_torch: activations as well.",
    )
    max_drift: float = Field(
        0.05, gt=0, le=1, description="Largest accepted share of validation rows whose answer changes."
    )


class QuantizeInputs(Inputs):
    """The model, and the dataset whose validation split it is checked on."""

    dataset: DatasetRef
    model: ModelRef


def _run_quantize(config: QuantizeConfig, inputs: QuantizeInputs, context: StepContext) -> ModelOutputs:
    from modelmill.compression.quantization import run

    return ModelOutputs(model=run(config, inputs.dataset, inputs.model, context))


quantize = Component(
    name="quantize",
    title="Quantise",
    group="Compress",
    config=QuantizeConfig,
    inputs=QuantizeInputs,
    outputs=ModelOutputs,
    run=_run_quantize,
    resources=Resources(cpus=2, memory_gb=4),
)


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


class CompressConfig(Config):
    """Find the smallest or fastest model that keeps a budget: distil, prune and quantise in one step.

    The metric is judged with confidence, on validation rows that nothing was learned or chosen from.
    """

    budget: Budget = Field(default_factory=Budget, description="Limits that the model has to keep.")
    prefer: Literal["speed", "size", "quality"] = Field(
        "speed", description="Which of the models that keep the budget is taken."
    )
    space: SpaceConfig = Field(default_factory=SpaceConfig, description="What is tried.")
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


class CompressInputs(Inputs):
    """The dataset, and the teacher to compress."""

    dataset: DatasetRef
    teacher: ModelRef


class CompressOutputs(Outputs):
    """The chosen model, and a report on every model that was measured."""

    model: ModelRef
    report: ReportRef


def _run_compress(config: CompressConfig, inputs: CompressInputs, context: StepContext) -> CompressOutputs:
    from modelmill.compression.compress import run

    model, report = run(config, inputs.dataset, inputs.teacher, context)
    return CompressOutputs(model=model, report=report)


compress = Component(
    name="compress",
    title="Compress",
    group="Compress",
    config=CompressConfig,
    inputs=CompressInputs,
    outputs=CompressOutputs,
    run=_run_compress,
    resources=Resources(gpus=1, cpus=2, memory_gb=8),
)
