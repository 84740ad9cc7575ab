"""The step ``gate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, DatasetRef, ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.registry.checks import CheckConfig, gate_checks
from modelmill.settings import Settings
from modelmill.steps.ports import GateOutputs
from modelmill.system.resources import Resources

if TYPE_CHECKING:
    AnyCheck = CheckConfig
else:  # the types are known once every module that declares checks has been imported
    AnyCheck = Annotated[
        Union[tuple(check.config for check in gate_checks().values())],  # noqa: UP007 (a union of a tuple)
        Field(discriminator="check"),
    ]


class GateConfig(Config):
    """Compare a challenger with the champion, its parent and the baselines on the same test rows."""

    name: str = Field(
        pattern=MODEL_NAME_PATTERN,
        description="Name of the registered model it is proposed for.",
    )
    metric: Literal["accuracy", "macro_f1"] = Field("accuracy", description="Metric that is compared.")
    max_drop: float = Field(
        0.005, ge=0, lt=1, description="Largest accepted drop of the metric (0.005: half a point)."
    )
    max_below_baseline: float = Field(
        0.0, ge=0, lt=1, description="How far the metric may lie below the best baseline."
    )
    max_class_drop: float | None = Field(
        0.1, ge=0, lt=1, description="Largest accepted drop of the recall of a class; empty: any."
    )
    proof: bool = Field(
        False,
        description="Also refuse where the rows are too few to show that the metric drops by no more than "
        "max_drop: the whole confidence interval has to lie within it.",
    )
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Confidence of all comparisons together: an equal challenger is refused less often than "
        "in one minus this.",
    )
    may_lose_classes: bool = Field(
        False, description="Whether a class that the champion answers may be one that the challenger cannot."
    )
    resamples: int = Field(2000, ge=200, description="Bootstrap resamples.")
    checks: tuple[AnyCheck, ...] = Field((), description="Further checks.")


class GateInputs(Inputs):
    """The dataset whose test split is judged on, and the exported model."""

    dataset: DatasetRef
    challenger: ModelRef


def _gate_state(config: GateConfig, _inputs: GateInputs, settings: Settings) -> str:
    from modelmill.registry.checks import outside_state
    from modelmill.registry.promotion import champion_version

    read = "".join(f" {outside_state(check, config.name, settings)}" for check in config.checks)
    return f"champion={champion_version(config.name, settings)}{read}".rstrip()


def _run_gate(config: GateConfig, inputs: GateInputs, context: StepContext) -> GateOutputs:
    from modelmill.registry.gate import run

    return GateOutputs(verdict=run(config, inputs.dataset, inputs.challenger, context))


gate = Component(
    name="gate",
    title="Gate",
    group="Check",
    config=GateConfig,
    inputs=GateInputs,
    outputs=GateOutputs,
    run=_run_gate,
    version=4,
    resources=Resources(cpus=2, memory_gb=4),
    outside_state=_gate_state,
)
