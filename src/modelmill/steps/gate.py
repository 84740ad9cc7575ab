"""Decide whether an exported model may become the champion of a registered model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.registry import answers_check
from modelmill.registry import checks as own_checks
from modelmill.registry.gate_check import ENTRY_POINT_GROUP, GateCheck, known_checks
from modelmill.registry.gate_options import GateOptions
from modelmill.rules.lifecycle import decisions_check
from modelmill.settings import Settings
from modelmill.signals import EXTENSIONS
from modelmill.steps.ports import GateOutputs
from modelmill.system.resources import Resources

if TYPE_CHECKING:
    AnyCheck = GateCheck
else:
    AnyCheck = Annotated[
        Union[tuple(known_checks([own_checks, answers_check, decisions_check]).values())],  # noqa: UP007 (of a tuple)
        Field(discriminator="check"),
    ]


class GateConfig(GateOptions, Config):
    """Compare a challenger with the champion, its parent and the baselines on the same test rows."""

    checks: tuple[AnyCheck, ...] = Field((), description="Further checks.")


class GateInputs(Inputs):
    """The dataset whose test split is judged on, and the exported model."""

    dataset: DatasetRef
    challenger: ModelRef


def run(config: GateConfig, inputs: GateInputs, context: StepContext) -> GateOutputs:
    """Judge the challenger."""
    from modelmill.registry.gate import judge_challenger

    verdict = judge_challenger(
        inputs.challenger,
        inputs.dataset,
        config,
        config.checks,
        run=context.run,
        settings=context.settings,
        workspace=context,
    )
    return GateOutputs(verdict=verdict)


def _outside_state(config: GateConfig, _inputs: GateInputs, settings: Settings) -> str:
    from modelmill.registry.promotion import champion_version

    read = "".join(f" {check.outside_state(config.name, settings)}" for check in config.checks)
    return f"champion={champion_version(config.name, settings)}{read}".rstrip()


gate = Component(
    name="gate",
    title="Gate",
    group="Check",
    config=GateConfig,
    inputs=GateInputs,
    outputs=GateOutputs,
    run=run,
    extensions=(ENTRY_POINT_GROUP, *EXTENSIONS),
    version=6,
    resources=Resources(cpus=2, memory_gb=4),
    outside_state=_outside_state,
)
